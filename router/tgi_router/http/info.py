"""GET /info and /v1/models: what is served."""

from collections.abc import Iterable

from aiohttp import web

from tgi_router.http.json_response import json_response
from tgi_router.http.services import Services
from tgi_router.schema.openai import Model, ModelList


class InfoRoutes:
    """The routes that tell what is served."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of them."""
        return [web.get("/info", self.info), web.get("/v1/models", self.models)]

    async def info(self, _request: web.Request) -> web.StreamResponse:
        """Model and limits."""
        return json_response(self._services.info)

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """The model, as OpenAI lists them."""
        model_id = self._services.info.model_id
        model = Model(model_id, "model", self._services.started_at, model_id)
        return json_response(ModelList("list", [model]))
