"""What the routes need of the rest of the router, built once and passed down."""

from dataclasses import dataclass, field
from typing import Protocol

from tgi_router.infer import Inference
from tgi_router.schema.info import Info
from tgi_router.telemetry.metrics import Metrics
from tgi_router.text.dialect import Dialect
from tgi_router.text.templates import ChatTemplate
from tgi_router.text.workers import TextWorkers
from tgi_router.validation.validator import Validator


class HealthCheck(Protocol):
    """Tells whether requests can be answered."""

    async def check(self) -> str | None:
        """None when healthy, else what is wrong, in words."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How the routes behave, as the command line says.

    Attributes:
        payload_limit: longest body, bytes.
        max_client_batch_size: most prompts in one /v1/completions request.
        cors_allow_origin: origins that browsers may call from; all when empty.
        compute_type: what `x-compute-type` says.
        api_keys: of which clients must show one; none when anyone may ask.
        protect_metrics: whether /metrics asks for a key too.
        kserve: whether KServe's routes are served.
        aip_health_route: another path of the health route, as Vertex AI asks for it.
        aip_predict_route: another path of the Vertex route.
        body_timeout: seconds that a request's body may take to arrive.
    """

    payload_limit: int
    max_client_batch_size: int
    cors_allow_origin: tuple[str, ...]
    compute_type: str
    api_keys: tuple[str, ...] = field(repr=False)
    protect_metrics: bool
    kserve: bool
    aip_health_route: str | None
    aip_predict_route: str | None
    body_timeout: float


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a route may use.

    Attributes:
        info: the answer of /info; also the source of the model's name.
        started_at: Unix time of the start, seconds.
    """

    inference: Inference
    validator: Validator
    template: ChatTemplate
    dialect: Dialect
    workers: TextWorkers
    health: HealthCheck
    metrics: Metrics
    info: Info
    options: HttpOptions
    started_at: int
