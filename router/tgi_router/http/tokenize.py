"""POST /tokenize."""

from collections.abc import Iterable

from aiohttp import web
from msgspec.json import Decoder

from tgi_router.http.body import read_json
from tgi_router.http.json_response import json_response
from tgi_router.http.services import Services
from tgi_router.schema.generate import GenerateRequest, SimpleToken

_TOKENIZE = Decoder(GenerateRequest)


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
        spans = await self._services.validator.tokenize(body.inputs)
        return json_response([SimpleToken(span.id, span.text, span.start, span.stop) for span in spans])
