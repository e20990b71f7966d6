"""POST /v1/chat/completions."""

from collections.abc import Iterable

from aiohttp import web
from msgspec.json import Decoder

from tgi_router.http.answers import gather
from tgi_router.http.body import read_json
from tgi_router.http.chat_answer import chat_completion
from tgi_router.http.chat_request import ChatWork, plan_chat
from tgi_router.http.chat_stream import ChatRenderer, ChatStream
from tgi_router.http.headers import answer_headers, stream_headers
from tgi_router.http.json_response import json_response
from tgi_router.http.openai import Stamp, choice_count, wants_usage
from tgi_router.http.services import Services
from tgi_router.http.sse import send_events
from tgi_router.http.start import counting_refusals, start_members
from tgi_router.schema.chat import ChatRequest

_CHAT = Decoder(ChatRequest)


class ChatRoutes:
    """The chat route."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of it."""
        return [web.post("/v1/chat/completions", self.complete)]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer the conversation in the body."""
        return await self.answer(
            request, await read_json(request, _CHAT, self._services.options.payload_limit)
        )

    async def answer(self, request: web.Request, body: ChatRequest) -> web.StreamResponse:
        """Answer a conversation, in one piece or as a stream."""
        services, compute_type = self._services, self._services.options.compute_type
        choices = choice_count(body, services.validator.limits.max_choices)
        with services.inference.acquire(choices) as permit:
            with counting_refusals(services, permit):
                work: ChatWork = await services.workers.run(lambda: plan_chat(services, body, choices))
                started = await start_members(services, permit, work.request, choices)
            stamp = Stamp.new("chatcmpl", services.info)
            if body.stream:
                stream = ChatStream(stamp, work.plan, with_usage=wants_usage(body))
                generations = [
                    (events, ChatRenderer(stream, valid, index))
                    for index, (valid, events) in enumerate(started)
                ]
                headers = stream_headers(compute_type, len(started[0][0].inputs))
                return await send_events(request, headers, generations, stream.append_ending)
            answers = [await gather(*member) for member in started]
            headers = answer_headers(compute_type, permit.acquired_at, answers)
        return json_response(chat_completion(stamp, work.plan, answers), headers)
