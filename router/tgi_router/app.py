"""The router's life: connect to the shards, warm them up, open the port; at the end, finish what is open."""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack

import structlog

from tgi_common.version import read_version
from tgi_router import collector
from tgi_router.batching.batcher import Batcher
from tgi_router.batching.health import Health
from tgi_router.client.group import ShardGroup
from tgi_router.client.warmup import ServerLimits, warm_up
from tgi_router.http.application import build_application
from tgi_router.http.server import listen
from tgi_router.http.services import HttpOptions, Services
from tgi_router.infer import Inference
from tgi_router.schema.info import Info
from tgi_router.settings import RouterSettings
from tgi_router.telemetry.metrics import Metrics
from tgi_router.text.load import load_texts
from tgi_router.text.workers import TextWorkers
from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.validator import Validator

STALL_SECONDS = 60.0
# Texts that may wait for a worker beyond those of requests with a permit: /tokenize takes none.
EXTRA_PENDING_TEXTS = 128

_log = structlog.get_logger(__name__)


class Router:
    """A running router.

    Args:
        parts: what to let go at the end: the port first, the shards last.
    """

    def __init__(self, parts: AsyncExitStack) -> None:
        self._parts = parts

    async def close(self) -> None:
        """Take no new requests, finish the open ones, and let everything go."""
        await self._parts.aclose()


async def serve(settings: RouterSettings) -> None:
    """Run until SIGTERM or SIGINT, then finish what is open. A second signal ends the process at once.

    Raises:
        ModelFilesError, TokenizerError, TemplateFilesError, DialectError: the model's files cannot be used.
        ShardError: the shards do not answer.
        LimitsError: the limits asked for cannot be had.
        ListenError: the port cannot be opened.
    """
    stop = _watch_signals()
    starting = asyncio.create_task(start(settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return
    router = await starting
    collector.settle()
    await stopping
    _log.info("stopping: open requests are finished, new ones are refused")
    await router.close()


async def start(settings: RouterSettings) -> Router:
    """Bring everything up, the port last.

    Raises:
        Exception: as `serve` lists.
    """
    texts = await asyncio.to_thread(load_texts, settings)
    async with AsyncExitStack() as parts:
        shards = await ShardGroup.connect(settings.master_shard_uds_path)
        parts.push_async_callback(shards.close)
        warmup_started = time.monotonic()
        limits = await warm_up(shards, settings.limits)
        # Warmup has run the largest step there can be: one that takes a few times as long is stuck, not slow.
        stall_seconds = max(STALL_SECONDS, 3 * (time.monotonic() - warmup_started))
        workers = TextWorkers(
            settings.validation_workers, settings.max_concurrent_requests + EXTRA_PENDING_TEXTS
        )
        parts.callback(workers.close)
        metrics = Metrics(max_input_tokens=limits.max_input_tokens, max_total_tokens=limits.max_total_tokens)
        batcher = Batcher(shards, limits, metrics, settings.policy)
        batcher.start()
        parts.push_async_callback(batcher.close)
        services = Services(
            inference=Inference(batcher, metrics, max_concurrent_requests=settings.max_concurrent_requests),
            validator=Validator(request_limits(settings, limits), texts.tokenizer, workers, texts.grammars),
            template=texts.template,
            dialect=texts.dialect,
            workers=workers,
            health=Health(shards, batcher.progress, stall_seconds=stall_seconds),
            metrics=metrics,
            info=describe_server(settings, limits),
            options=http_options(settings, limits),
            started_at=int(time.time()),
        )
        runner = await listen(
            build_application(services), settings.hostname, settings.port, settings.connections
        )
        parts.push_async_callback(runner.cleanup)
        log_start(services.info, settings)
        return Router(parts.pop_all())


def request_limits(settings: RouterSettings, limits: ServerLimits) -> RequestLimits:
    """What a single request may ask for."""
    return RequestLimits(
        max_input_tokens=limits.max_input_tokens,
        max_total_tokens=limits.max_total_tokens,
        max_best_of=min(settings.max_best_of, settings.max_concurrent_requests),
        max_stop_sequences=settings.max_stop_sequences,
        max_top_n_tokens=settings.max_top_n_tokens,
        max_choices=min(settings.max_choices, settings.max_concurrent_requests),
        max_messages=settings.max_messages,
        max_tools=settings.max_tools,
        max_biased_tokens=settings.max_biased_tokens,
    )


def describe_server(settings: RouterSettings, limits: ServerLimits) -> Info:
    """The answer of /info."""
    return Info(
        model_id=settings.model_id,
        max_concurrent_requests=settings.max_concurrent_requests,
        max_best_of=settings.max_best_of,
        max_stop_sequences=settings.max_stop_sequences,
        max_input_tokens=limits.max_input_tokens,
        max_total_tokens=limits.max_total_tokens,
        validation_workers=settings.validation_workers,
        max_client_batch_size=settings.max_client_batch_size,
        version=read_version(),
        max_top_n_tokens=settings.max_top_n_tokens,
        model_dtype=limits.shard.dtype,
        model_device_type=limits.shard.device_type,
        max_batch_total_tokens=limits.max_batch_total_tokens,
        max_batch_prefill_tokens=limits.max_batch_prefill_tokens,
    )


def http_options(settings: RouterSettings, limits: ServerLimits) -> HttpOptions:
    """How the routes behave."""
    device = "cpu" if limits.shard.device_type == "cpu" else "gpu"
    return HttpOptions(
        payload_limit=settings.payload_limit,
        max_client_batch_size=settings.max_client_batch_size,
        cors_allow_origin=settings.cors_allow_origin,
        compute_type=settings.compute_type or f"{device}+optimized",
        api_keys=settings.api_keys,
        protect_metrics=settings.protect_metrics,
        kserve=settings.kserve,
        aip_health_route=settings.aip_health_route,
        aip_predict_route=settings.aip_predict_route,
        body_timeout=settings.body_timeout,
    )


def log_start(info: Info, settings: RouterSettings) -> None:
    """Say in one line what is served, where, and within which limits."""
    _log.info(
        "serving",
        model=info.model_id,
        address=f"{settings.hostname}:{settings.port}",
        max_input_tokens=info.max_input_tokens,
        max_total_tokens=info.max_total_tokens,
        max_batch_prefill_tokens=info.max_batch_prefill_tokens,
        max_batch_total_tokens=info.max_batch_total_tokens,
        max_concurrent_requests=info.max_concurrent_requests,
    )


def _watch_signals() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop
