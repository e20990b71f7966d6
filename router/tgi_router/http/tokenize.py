"""POST /tokenize."""

from collections.abc import Iterable
from itertools import islice

from aiohttp import web
from msgspec.json import Decoder, Encoder

from tgi_router.http.body import read_json
from tgi_router.http.services import Services
from tgi_router.schema.generate import GenerateRequest, SimpleToken
from tgi_router.text.tokenizer import TokenSpan

TOKENS_AT_ONCE = 1024
"""Tokens written by one call, which lets no other thread run."""

_TOKENIZE = Decoder(GenerateRequest)
_ENCODER = Encoder()


class TokenizeRoutes:
    """The route that shows how a text is cut into tokens."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of it."""
        return [web.post("/tokenize", self.tokenize)]

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        """The tokens of `inputs`, special ones added, with the bytes each stands for."""
        body = await read_json(request, _TOKENIZE, self._services.options.payload_limit)
        tokens = await self._services.validator.tokenize(body.inputs, render_tokens)
        return web.Response(body=tokens, content_type="application/json")


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
