"""POST /vertex, as Vertex AI asks it: several prompts or chats, of which the texts are answered."""

from collections.abc import Iterable

from aiohttp import web
from msgspec import UNSET
from msgspec.json import Decoder

from tgi_router.http.body import decode_json, read_json
from tgi_router.http.chat_request import ChatWork, plan_chat
from tgi_router.http.json_response import json_response
from tgi_router.http.openai import choice_count
from tgi_router.http.services import Services
from tgi_router.http.texts import generate_texts
from tgi_router.schema.chat import ChatRequest
from tgi_router.schema.platforms import (
    BodyKind,
    VertexInstance,
    VertexParameters,
    VertexRequest,
    VertexResponse,
)
from tgi_router.validation.refusal import refuse
from tgi_router.validation.request import UncheckedRequest

PATH = "/vertex"

_VERTEX = Decoder(VertexRequest)
_KIND = Decoder(BodyKind)
_INSTANCE = Decoder(VertexInstance)
_CHAT = Decoder(ChatRequest)


class VertexRoutes:
    """The route of predictions, also where AIP_PREDICT_ROUTE says."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of it."""
        path = self._services.options.aip_predict_route
        return [web.post(path, self.predict) for path in dict.fromkeys([PATH, path or PATH])]

    async def predict(self, request: web.Request) -> web.StreamResponse:
        """The generated text of each instance; all of them run side by side."""
        body = await read_json(request, _VERTEX, self._services.options.payload_limit)
        if not body.instances:
            refuse("`instances` cannot be empty", "instances")
        requests = [
            await self._read(bytes(instance), f"$.instances[{place}]")
            for place, instance in enumerate(body.instances)
        ]
        return json_response(VertexResponse(await generate_texts(self._services, requests)))

    async def _read(self, instance: bytes, at: str) -> UncheckedRequest:
        services = self._services
        if decode_json(instance, _KIND, at).inputs is not UNSET:
            prompt = decode_json(instance, _INSTANCE, at)
            return UncheckedRequest(prompt.inputs, prompt.parameters or VertexParameters())
        chat = decode_json(instance, _CHAT, at)
        choices = choice_count(chat, 1)
        work: ChatWork = await services.workers.run(lambda: plan_chat(services, chat, choices))
        return work.request
