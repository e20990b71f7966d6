"""All routes together, as an aiohttp application."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from tgi_router.http.auth import require_key
from tgi_router.http.chat import ChatRoutes
from tgi_router.http.completions import CompletionRoutes
from tgi_router.http.generate import GenerateRoutes
from tgi_router.http.health import HealthRoutes
from tgi_router.http.info import InfoRoutes
from tgi_router.http.kserve import KServeHealthRoutes, KServeRoutes
from tgi_router.http.metrics import MetricsRoutes
from tgi_router.http.middleware import add_common_headers, answer_preflight, end_slow_bodies, map_errors
from tgi_router.http.pages import PageRoutes
from tgi_router.http.request_id import log_request_id
from tgi_router.http.sagemaker import SageMakerRoutes
from tgi_router.http.services import HttpOptions, Services
from tgi_router.http.tokenize import TokenizeRoutes
from tgi_router.http.vertex import VertexRoutes


class Family(Protocol):
    """The routes of one API."""

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of them."""


def build_application(services: Services) -> web.Application:
    """The application that serves every route.

    Run it with `handler_cancellation` on: a handler that is cancelled when its client goes away is what stops
    a generation that nobody reads.
    """
    options = services.options
    application = web.Application()
    keyed = application.add_routes(keyed_routes(services))
    keyless = application.add_routes(keyless_routes(services))
    # A path of Vertex AI's that another route has already opens nothing.
    open_paths = paths_of(keyless) - paths_of(route for route in keyed if route.method == "GET")
    application.middlewares.extend(middlewares(options, open_paths))
    application.on_response_prepare.append(add_common_headers(options.cors_allow_origin))
    return application


def paths_of(routes: Iterable[web.AbstractRoute]) -> set[str]:
    """The paths of routes, as requests are matched to them."""
    return {route.resource.canonical for route in routes if route.resource is not None}


def keyed_routes(services: Services) -> list[web.RouteDef]:
    """What asks for an API key, where there are any."""
    families: list[Callable[[Services], Family]] = [
        GenerateRoutes,
        ChatRoutes,
        CompletionRoutes,
        TokenizeRoutes,
        SageMakerRoutes,
        VertexRoutes,
        InfoRoutes,
    ]
    if services.options.kserve:
        families.append(KServeRoutes)
    if services.options.protect_metrics:
        families.append(MetricsRoutes)
    return [route for family in families for route in family(services).routes()]


def keyless_routes(services: Services) -> list[web.RouteDef]:
    """What never asks for one."""
    families: list[Callable[[Services], Family]] = [HealthRoutes, PageRoutes]
    if services.options.kserve:
        families.append(KServeHealthRoutes)
    if not services.options.protect_metrics:
        families.append(MetricsRoutes)
    return [route for family in families for route in family(services).routes()]


def middlewares(options: HttpOptions, open_paths: Collection[str]) -> Iterator[Middleware]:
    """What is around every route, the outermost first."""
    yield log_request_id
    yield answer_preflight
    yield map_errors
    if options.api_keys:
        yield require_key(options.api_keys, open_paths)
    yield end_slow_bodies(options.body_timeout)
