"""POST /tokenize and /chat_tokenize."""

from collections.abc import Iterable
from itertools import islice

from aiohttp import web
from msgspec import Raw
from msgspec.json import Decoder, Encoder

from tgi_router.http.body import read_json
from tgi_router.http.chat_request import ChatWork, plan_chat
from tgi_router.http.json_response import json_response
from tgi_router.http.services import Services
from tgi_router.schema.chat import ChatRequest
from tgi_router.schema.generate import ChatTokenizeResponse, GenerateRequest, SimpleToken
from tgi_router.text.tokenizer import TokenSpan

TOKENS_AT_ONCE = 1024
"""Tokens written by one call, which lets no other thread run."""

_TOKENIZE = Decoder(GenerateRequest)
_CHAT = Decoder(ChatRequest)
_ENCODER = Encoder()


class TokenizeRoutes:
    """The routes that show how a text, or a conversation's prompt, is cut into tokens."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of them."""
        return [web.post("/tokenize", self.tokenize), web.post("/chat_tokenize", self.chat_tokenize)]

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        """The tokens of `inputs`, special ones added, with the bytes each stands for."""
        body = await read_json(request, _TOKENIZE, self._services.options.payload_limit)
        tokens = await self._services.validator.tokenize(body.inputs, render_tokens)
        return web.Response(body=tokens, content_type="application/json")

    async def chat_tokenize(self, request: web.Request) -> web.StreamResponse:
        """The prompt that the chat route makes of a conversation, and its tokens."""
        services = self._services
        body = await read_json(request, _CHAT, services.options.payload_limit)
        services.metrics.request_count.inc()
        work: ChatWork = await services.workers.run(lambda: plan_chat(services, body, 1))
        prompt = work.request.inputs
        if not isinstance(prompt, str):
            raise TypeError("a template renders text")
        tokens = await services.validator.tokenize(prompt, render_tokens, add_special_tokens=False)
        return json_response(ChatTokenizeResponse(Raw(tokens), prompt))


def render_tokens(spans: Iterable[TokenSpan]) -> bytes:
    """The tokens as a JSON array."""
    remaining, out = iter(spans), bytearray(b"[")
    while some := [
        SimpleToken(span.id, span.text, span.start, span.stop) for span in islice(remaining, TOKENS_AT_ONCE)
    ]:
        if len(out) > 1:
            out += b","
        out += _ENCODER.encode(some)[1:-1]
    out += b"]"
    return bytes(out)
