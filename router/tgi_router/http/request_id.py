"""X-Request-Id: one for each request, the client's own if it can be used, in the answer and in log lines."""

import re
import uuid

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

HEADER = "X-Request-Id"
_KEY = web.RequestKey("request_id", str)
_SANE = re.compile(r"[ -~]{1,128}")


def new_request_id() -> str:
    """An id that no other request has."""
    return uuid.uuid4().hex


def request_id(request: web.BaseRequest) -> str:
    """The id of a request: what the client calls it, if that is up to 128 printable ASCII characters."""
    known = request.get(_KEY)
    if known is None:
        given = request.headers.get(HEADER, "")
        known = request[_KEY] = given if _SANE.fullmatch(given) else new_request_id()
    return known


@web.middleware
async def log_request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put the id into every log line of a request, whose task has a context of its own."""
    structlog.contextvars.bind_contextvars(request_id=request_id(request))
    return await handler(request)
