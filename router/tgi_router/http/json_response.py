"""Responses with a JSON body."""

from collections.abc import Mapping, Sequence

from aiohttp import web
from msgspec import Struct
from msgspec.json import Encoder

_ENCODER = Encoder()


def json_response(
    message: Struct | Sequence[Struct], headers: Mapping[str, str] | None = None, status: int = 200
) -> web.Response:
    """A compact JSON body; numbers that are not finite become null."""
    body = _ENCODER.encode(message)
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")
