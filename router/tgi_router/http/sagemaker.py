"""POST /invocations, as SageMaker asks it: a body of POST /, of the chat or of the completions route."""

from collections.abc import Iterable

from aiohttp import web
from msgspec import UNSET
from msgspec.json import Decoder

from tgi_router.http.body import decode_json, read_body
from tgi_router.http.chat import ChatRoutes
from tgi_router.http.completions import CompletionRoutes
from tgi_router.http.generate import GenerateRoutes
from tgi_router.http.services import Services
from tgi_router.schema.chat import ChatRequest
from tgi_router.schema.completions import CompletionRequest
from tgi_router.schema.generate import CompatGenerateRequest
from tgi_router.schema.platforms import BodyKind
from tgi_router.validation.refusal import refuse

_KIND = Decoder(BodyKind)
_COMPAT = Decoder(CompatGenerateRequest)
_CHAT = Decoder(ChatRequest)
_COMPLETION = Decoder(CompletionRequest)


class SageMakerRoutes:
    """SageMaker's route of predictions."""

    def __init__(self, services: Services) -> None:
        self._limit = services.options.payload_limit
        self._generate = GenerateRoutes(services)
        self._chat = ChatRoutes(services)
        self._completions = CompletionRoutes(services)

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of it."""
        return [web.post("/invocations", self.invoke)]

    async def invoke(self, request: web.Request) -> web.StreamResponse:
        """Answer as the route does whose body it is; `inputs` beats `messages`, and that `prompt`."""
        body = await read_body(request, self._limit)
        kind = decode_json(body, _KIND)
        if kind.inputs is not UNSET:
            return await self._generate.answer_compat(request, decode_json(body, _COMPAT))
        if kind.messages is not UNSET:
            return await self._chat.answer(request, decode_json(body, _CHAT))
        if kind.prompt is UNSET:
            refuse("the body must have `inputs`, `messages` or `prompt`")
        return await self._completions.answer(request, decode_json(body, _COMPLETION))
