"""What happens around every route: errors become responses, browsers get their CORS headers."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tgi_router.http.errors import error_response

VARY = "origin, access-control-request-method, access-control-request-headers"
ALLOWED_METHODS = "GET,POST"


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
    asked_for = request.headers.get("Access-Control-Request-Headers", "content-type")
    return web.Response(
        headers={
            "Access-Control-Allow-Methods": ALLOWED_METHODS,
            "Access-Control-Allow-Headers": asked_for,
        }
    )


def add_cors_headers(
    origins: tuple[str, ...],
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For `on_response_prepare`: names who may read a response, which is anyone when no origin is listed."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        del response.headers["Server"]  # aiohttp names itself there, and Python's version
        response.headers["Vary"] = VARY
        if not origins:
            response.headers["Access-Control-Allow-Origin"] = "*"
        elif (origin := request.headers.get("Origin")) in origins:
            response.headers["Access-Control-Allow-Origin"] = origin

    return add


MIDDLEWARES: tuple[Middleware, ...] = (answer_preflight, map_errors)
