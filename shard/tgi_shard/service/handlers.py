"""The eight calls of the contract. Each hands a command to the engine thread and waits without blocking."""

from __future__ import annotations  # grpc's classes are generic in its type stubs only

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from tgi_proto import generate_pb2 as pb
from tgi_proto import generate_pb2_grpc
from tgi_shard.engine.engine import Engine
from tgi_shard.engine.request import EngineRequest
from tgi_shard.engine.results import RequestFailure, StepResult
from tgi_shard.engine.warmup import WarmupRequest
from tgi_shard.engine.worker import EngineThread
from tgi_shard.service.messages import RequestReader, write_batch, write_step
from tgi_shard.service.order import StepOrder

Result = TypeVar("Result")
if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


STOP_SECONDS = 5.0

# One runs, one waits its turn: that is enough for the engine never to wait for its caller. With more, a new
# request would wait behind more steps that were sent before it came.
MAX_INFLIGHT_STEPS = 2


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """What kind of shard this is, in the contract's words."""

    dtype: str
    device_type: str
    attention: str
    block_size: int


class RequestsFailedError(RuntimeError):
    """Some requests of a call failed, and the caller has no other way to learn of it."""


class TextGenerationService(generate_pb2_grpc.TextGenerationServiceServicer):
    """Serves one engine. Calls run as they arrive; steps that were sent ahead, in the order of their numbers.

    So no handler awaits before its command is queued, but that of a step which overtook the one before it,
    and that of a Prefill with grammars to compile, which the steps sent ahead of it wait for.

    Attributes:
        lost: set once the ranks have lost each other, after which there is nothing left to serve.
    """

    def __init__(
        self, engine: Engine, thread: EngineThread, reader: RequestReader, info: ShardInfo, urls: list[str]
    ) -> None:
        self._engine = engine
        self._thread = thread
        self._reader = reader
        self._info = info
        self._urls = urls
        self._order = StepOrder()
        self.lost = asyncio.Event()

    def close(self) -> None:
        """Let the running step finish, for a bounded time."""
        self._thread.stop(STOP_SECONDS)

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:  # noqa: N802
        """What kind of shard this is."""
        return pb.InfoResponse(
            requires_padding=False,
            dtype=self._info.dtype,
            device_type=self._info.device_type,
            speculate=0,
            support_chunking=True,
            use_prefix_caching=True,
            attention_impl=self._info.attention,
            block_size=self._info.block_size,
            max_inflight_steps=MAX_INFLIGHT_STEPS,
            accepts_input_ids=True,
        )

    async def ServiceDiscovery(  # noqa: N802
        self, request: pb.ServiceDiscoveryRequest, context: Context
    ) -> pb.ServiceDiscoveryResponse:
        """The sockets of all ranks."""
        return pb.ServiceDiscoveryResponse(urls=self._urls)

    async def Health(self, request: pb.HealthRequest, context: Context) -> pb.HealthResponse:  # noqa: N802
        """Compute something small on the device, beside a step that may be running."""
        if not self._thread.alive:
            raise RuntimeError("the engine thread has ended")
        await asyncio.to_thread(self._engine.check_device)
        return pb.HealthResponse()

    async def ClearCache(self, request: pb.ClearCacheRequest, context: Context) -> pb.ClearCacheResponse:  # noqa: N802
        """Forget one batch or all."""
        batch_id = request.id if request.HasField("id") else None
        await self._run(lambda: self._engine.clear(batch_id))
        return pb.ClearCacheResponse()

    async def FilterBatch(self, request: pb.FilterBatchRequest, context: Context) -> pb.FilterBatchResponse:  # noqa: N802
        """Keep some requests of a batch."""
        keep = list(request.request_ids)
        state = await self._run(lambda: self._engine.filter(request.batch_id, keep))
        return pb.FilterBatchResponse(batch=write_batch(state))

    async def Warmup(self, request: pb.WarmupRequest, context: Context) -> pb.WarmupResponse:  # noqa: N802
        """Measure the memory, allocate the KV cache, answer the limits."""
        warmup = WarmupRequest(
            prompt_lengths=[max(len(r.input_ids), r.truncate, 1) for r in request.batch.requests],
            max_prefill_tokens=request.max_prefill_tokens,
            max_input_tokens=request.max_input_tokens if request.HasField("max_input_tokens") else None,
            max_total_tokens=request.max_total_tokens if request.HasField("max_total_tokens") else None,
        )
        limits = await self._run(lambda: self._engine.warmup(warmup))
        return pb.WarmupResponse(
            max_supported_total_tokens=limits.kv_tokens,
            max_input_tokens=limits.max_input_tokens,
            max_total_tokens=limits.max_total_tokens,
        )

    async def Prefill(self, request: pb.PrefillRequest, context: Context) -> pb.PrefillResponse:  # noqa: N802
        """Add requests and run one step."""
        started = time.perf_counter_ns()
        requests, failures = await self._read(request.batch)
        cached_id = request.cached_batch.id if request.HasField("cached_batch") else None
        result = await self._run_step(
            request,
            lambda: self._engine.prefill(request.batch.id, requests, cached_id, ahead=request.ahead),
        )
        result.failures[:0] = failures
        await self._report_failures(result, accepts_errors=request.accepts_errors)
        answer = pb.PrefillResponse()
        write_step(result, answer, time.perf_counter_ns() - started)
        return answer

    async def Decode(self, request: pb.DecodeRequest, context: Context) -> pb.DecodeResponse:  # noqa: N802
        """Run one step of cached batches."""
        started = time.perf_counter_ns()
        ids = [batch.id for batch in request.batches]
        result = await self._run_step(request, lambda: self._engine.decode(ids, ahead=request.ahead))
        await self._report_failures(result, accepts_errors=request.accepts_errors)
        answer = pb.DecodeResponse()
        write_step(result, answer, time.perf_counter_ns() - started)
        return answer

    async def _read(self, batch: pb.Batch) -> tuple[list[EngineRequest], list[RequestFailure]]:
        """Read a batch, in a thread if there are grammars to compile: the running step goes on meanwhile."""
        if any(message.parameters.grammar for message in batch.requests):
            return await asyncio.to_thread(self._reader.read_batch, batch)
        return self._reader.read_batch(batch)

    async def _report_failures(self, result: StepResult, *, accepts_errors: bool) -> None:
        """Fail the call where its caller cannot be told of single requests, as TGI's router.

        Such a caller gives up every request of the call, so what is left of the batch is forgotten too.

        Raises:
            RequestsFailedError: with the reasons.
        """
        if accepts_errors or not result.failures:
            return
        if (batch := result.batch) is not None:
            await self._run(lambda: self._engine.clear(batch.id))
        raise RequestsFailedError("; ".join(failure.message for failure in result.failures))

    async def _run_step(
        self, request: pb.PrefillRequest | pb.DecodeRequest, command: Callable[[], StepResult]
    ) -> StepResult:
        if request.ahead:
            await self._order.wait_for(request.step - 1)
        try:
            outcome = self._submit(command)
        finally:
            self._order.started(request.step)
        return await asyncio.shield(outcome)

    async def _run(self, command: Callable[[], Result]) -> Result:
        # Shielded: a caller that gives up must not take a queued command from this rank alone.
        return await asyncio.shield(self._submit(command))

    def _submit(self, command: Callable[[], Result]) -> asyncio.Future[Result]:
        outcome = asyncio.wrap_future(self._thread.submit(command))
        outcome.add_done_callback(self._take_note)
        return outcome

    def _take_note(self, outcome: asyncio.Future[Any]) -> None:
        if not outcome.cancelled():
            outcome.exception()  # looked at, or asyncio logs a failure whose caller has given up
        if self._engine.lost is not None:
            self.lost.set()
