"""KServe's routes under /v2 (the Open Inference Protocol), as TGI has them; served with --kserve."""

from collections.abc import Iterable

from aiohttp import web
from msgspec.json import Decoder

from tgi_router.http.body import BodyError, read_json
from tgi_router.http.health import HealthRoutes
from tgi_router.http.json_response import json_response
from tgi_router.http.services import Services
from tgi_router.http.texts import generate_texts
from tgi_router.schema.platforms import (
    KServeInput,
    KServeLive,
    KServeMetadata,
    KServeOutputTensor,
    KServeRequest,
    KServeResponse,
)
from tgi_router.validation.request import UncheckedRequest

MODEL = "/v2/models/{name}"
VERSION = MODEL + "/versions/{version}"
"""The protocol lets clients leave the version away. Neither name is checked: the platform has its own."""

_INFER = Decoder(KServeRequest)


class KServeHealthRoutes:
    """Whether server and model are ready."""

    def __init__(self, services: Services) -> None:
        self._health = HealthRoutes(services)

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of them."""
        ready = ("/v2/health/ready", MODEL + "/ready", VERSION + "/ready")
        return [web.get("/v2/health/live", self.live), *(web.get(path, self.ready) for path in ready)]

    async def live(self, _request: web.Request) -> web.StreamResponse:
        """True, since this is an answer."""
        return json_response(KServeLive(live=True))

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """As /health, with TGI's body."""
        health = await self._health.health(request)
        return json_response(KServeLive(live=True)) if health.status == web.HTTPOk.status_code else health


class KServeRoutes:
    """Metadata and inference."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of them."""
        return [
            web.get("/v2", self.server),
            *(web.get(path, self.model) for path in (MODEL, VERSION)),
            *(web.post(path + "/infer", self.infer) for path in (MODEL, VERSION)),
        ]

    async def server(self, _request: web.Request) -> web.StreamResponse:
        """What the server can do."""
        version = self._services.info.version
        metadata = KServeMetadata("text-generation-inference", version, ["health", "models", "metrics"])
        return json_response(metadata)

    async def model(self, request: web.Request) -> web.StreamResponse:
        """What the model can do."""
        names = request.match_info
        return json_response(KServeMetadata(names["name"], names.get("version", "1"), ["infer", "ready"]))

    async def infer(self, request: web.Request) -> web.StreamResponse:
        """The generated text for each input, in their order, as bytes."""
        body = await read_json(request, _INFER, self._services.options.payload_limit)
        texts = [read_text(tensor) for tensor in body.inputs]
        if len(texts) != len(body.outputs):
            raise BodyError(422, "length mismatch", "Inputs and outputs length mismatch", "outputs")
        answers = await generate_texts(
            self._services, [UncheckedRequest(text, body.parameters) for text in texts]
        )
        outputs = [
            KServeOutputTensor(output.name, [1, len(data)], "BYTES", list(data))
            for output, data in zip(body.outputs, map(str.encode, answers), strict=True)
        ]
        return json_response(KServeResponse(body.id, outputs))


def read_text(tensor: KServeInput) -> str:
    """The text of an input.

    Raises:
        BodyError: its bytes are none.
    """
    try:
        return bytes(tensor.data).decode()
    except UnicodeDecodeError as error:
        message = f"`inputs` {tensor.name!r} is not valid UTF-8: {error.reason}"
        raise BodyError(422, "utf8", message, "inputs") from None
