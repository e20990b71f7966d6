"""GET /metrics, for Prometheus."""

from collections.abc import Iterable

from aiohttp import web

from tgi_router.http.services import Services


class MetricsRoutes:
    """The metrics route."""

    def __init__(self, services: Services) -> None:
        self._metrics = services.metrics

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of it."""
        return [web.get("/metrics", self.metrics)]

    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        """All metrics in Prometheus' text format."""
        return web.Response(body=self._metrics.exposition(), content_type="text/plain", charset="utf-8")
