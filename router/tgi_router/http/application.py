"""All routes together, as an aiohttp application."""

from aiohttp import web

from tgi_router.http.chat import ChatRoutes
from tgi_router.http.completions import CompletionRoutes
from tgi_router.http.generate import GenerateRoutes
from tgi_router.http.health import HealthRoutes
from tgi_router.http.info import InfoRoutes
from tgi_router.http.metrics import MetricsRoutes
from tgi_router.http.middleware import MIDDLEWARES, add_cors_headers
from tgi_router.http.pages import PageRoutes
from tgi_router.http.services import Services
from tgi_router.http.tokenize import TokenizeRoutes

FAMILIES = (
    GenerateRoutes,
    ChatRoutes,
    CompletionRoutes,
    TokenizeRoutes,
    InfoRoutes,
    HealthRoutes,
    MetricsRoutes,
    PageRoutes,
)


def build_application(services: Services) -> web.Application:
    """The application that serves every route.

    Run it with `handler_cancellation` on: a handler that is cancelled when its client goes away is what stops
    a generation that nobody reads.
    """
    application = web.Application(middlewares=MIDDLEWARES)
    for family in FAMILIES:
        application.add_routes(family(services).routes())
    application.on_response_prepare.append(add_cors_headers(services.options.cors_allow_origin))
    return application
