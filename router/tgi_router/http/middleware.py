"""What happens around every route: errors become responses, browsers get their CORS headers."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tgi_router.http.body import BodyError
from tgi_router.http.errors import error_response
from tgi_router.http.request_id import HEADER, request_id

VARY = "origin, access-control-request-method, access-control-request-headers"
ALLOWED_METHODS = "GET,POST"
PREFLIGHT_SECONDS = 7200
"""How long a browser may remember the answer to a preflight: as long as any of them does."""
EXPOSED_HEADERS = ", ".join(
    (
        *("x-compute-type", "x-compute-time", "x-compute-characters", "x-total-time", "x-validation-time"),
        *("x-queue-time", "x-inference-time", "x-time-per-token", "x-prompt-tokens", "x-generated-tokens"),
        *("x-request-id", "retry-after"),
    )
)
"""Headers that a page's scripts may read."""


@web.middleware
async def map_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a route raises into a response in the shape of its family."""
    try:
        return await handler(request)
    except ConnectionError:
        raise  # the client is gone: there is nobody to answer
    except Exception as error:
        return error_response(request, error)


@web.middleware
async def answer_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer OPTIONS on any path, as TGI does, before anything else looks at it.

    TGI allows only `content-type`, which keeps browsers from sending an API key; the asked-for headers are
    all allowed here.
    """
    if request.method != "OPTIONS":
        return await handler(request)
    asked_for = request.headers.get("Access-Control-Request-Headers", "authorization, content-type")
    return web.Response(
        headers={
            "Access-Control-Allow-Methods": ALLOWED_METHODS,
            "Access-Control-Allow-Headers": asked_for,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }
    )


def end_slow_bodies(seconds: float) -> Middleware:
    """A middleware that gives a body so many seconds to arrive, wherever it is read."""

    @web.middleware
    async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        body = request.content
        if body.is_eof():
            return await handler(request)

        def give_up() -> None:
            if not body.is_eof():
                message = f"the body did not arrive within {seconds:g} seconds"
                body.set_exception(BodyError(408, "request_timeout", message))

        deadline = asyncio.get_running_loop().call_later(seconds, give_up)
        try:
            return await handler(request)
        finally:
            deadline.cancel()

    return limit


def add_common_headers(
    origins: tuple[str, ...],
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For `on_response_prepare`: the request's id, and who may read a response; anyone if none is listed."""
    anyone = not origins or "*" in origins

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        del headers["Server"]  # aiohttp names itself there, and Python's version
        headers[HEADER] = request_id(request)
        headers["Vary"] = VARY
        if anyone:
            headers["Access-Control-Allow-Origin"] = "*"
        elif (origin := request.headers.get("Origin")) in origins:
            headers["Access-Control-Allow-Origin"] = origin
        if "Origin" in request.headers:
            headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS

    return add
