"""GET /health, /ping, /livez, /readyz and /: can requests be answered?"""

from collections.abc import Iterable

from aiohttp import web

from tgi_router.http.json_response import json_response
from tgi_router.http.services import Services
from tgi_router.schema.errors import ErrorResponse

PATHS = ("/", "/health", "/ping", "/livez", "/readyz")


class HealthRoutes:
    """The health route, under its names.

    Alive and ready are the same here: the port is open only while requests are taken, and the check does not
    depend on load.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of it."""
        vertex = self._services.options.aip_health_route
        paths = dict.fromkeys([*PATHS, *([vertex] if vertex else [])])
        return [web.get(path, self.health) for path in paths]

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """200 with no body, or 503 with the reason."""
        fault = await self._services.health.check()
        if fault is None:
            return web.Response()
        return json_response(ErrorResponse(f"unhealthy: {fault}", "healthcheck"), status=503)
