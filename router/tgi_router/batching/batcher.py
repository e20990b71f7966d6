"""The single task that talks to the shards: it admits requests, runs steps, hands out what they make."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

import structlog

from tgi_proto import generate_pb2 as pb
from tgi_router.batching.blocks import BlockAllocator
from tgi_router.batching.budget import (
    Admission,
    NewBatch,
    PaddedAdmission,
    PagedAdmission,
    RequestTooLargeError,
    Room,
)
from tgi_router.batching.delivery import Delivery
from tgi_router.batching.entry import Entry
from tgi_router.batching.prefix_cache import PrefixCache
from tgi_router.batching.progress import Progress
from tgi_router.batching.queue import RequestQueue
from tgi_router.batching.steps import Steps
from tgi_router.client.group import Shards
from tgi_router.client.messages import StepResult
from tgi_router.client.shard import ShardUnavailableError
from tgi_router.client.warmup import ServerLimits
from tgi_router.generation import ShardError, ValidRequest
from tgi_router.telemetry.metrics import Metrics

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JoinPolicy:
    """When new requests may make running ones wait, on shards that compute whole prompts only (TGI's rules).

    Attributes:
        waiting_served_ratio: join once there are so many new requests for each running one, ...
        max_waiting_tokens: ... or once the running ones have taken so many steps alone.
    """

    waiting_served_ratio: float = 0.3
    max_waiting_tokens: int = 20


@dataclass(slots=True, eq=False)
class RunningBatch:
    """A batch that the shards hold: what they last said of it, and the requests that still want it."""

    cached: pb.CachedBatch
    entries: dict[int, Entry]


class Batcher:
    """Runs all requests on the shards, in steps.

    One step is in flight at a time. There are at most two batches: the running one and, on shards that cannot
    compute a prompt beside running requests, the one that the next step joins to it.

    Nothing that goes wrong ends its task: a failure ends the requests it concerns, and the rest goes on.
    """

    def __init__(
        self, shards: Shards, limits: ServerLimits, metrics: Metrics, policy: JoinPolicy | None = None
    ) -> None:
        self.progress = Progress()
        self._shards = shards
        self._steps = Steps(shards, limits.shard, metrics)
        self._limits = limits
        self._shard = limits.shard
        self._metrics = metrics
        self._policy = policy if policy is not None else JoinPolicy()
        self._allocator = _make_allocator(limits)
        self._admission = _make_admission(limits, self._allocator)
        self._delivery = Delivery(self._allocator, metrics)
        self._queue = RequestQueue()
        self._batches: list[RunningBatch] = []
        self._chunking = limits.shard.support_chunking
        self._waiting_tokens = 1
        self._last_method = "prefill"
        self._request_ids = itertools.count()
        self._batch_ids = itertools.count()
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        metrics.batch_max_total_tokens.set(limits.max_batch_total_tokens)
        metrics.kv_blocks_total.set(self._allocator.capacity if self._allocator else 0)

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name="batcher")

    async def close(self) -> None:
        """Stop; requests that are left end with an error."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        error = ShardError("the server is shutting down")
        self._delivery.fail_all(self._queue.pop_all(), error)
        for batch in self._batches:
            self._delivery.fail_all(batch.entries.values(), error)
        self._batches.clear()
        self.progress.work_done()
        self._show_state()

    def submit(self, request: ValidRequest, *, arrived_at: float) -> Entry:
        """Queue a request.

        Args:
            request: what to generate.
            arrived_at: when the client's request came in, `time.monotonic()` seconds.

        Raises:
            RequestTooLargeError: it could never run on these shards.
            ShardError: the server is shutting down.
        """
        if self._closed:
            raise ShardError("the server is shutting down")
        self._admission.check(request)
        entry = Entry(next(self._request_ids), request, arrived_at=arrived_at, queued_at=time.monotonic())
        self._queue.append(entry)
        self._metrics.queue_size.set(len(self._queue))
        self.progress.work_arrived()
        self._work.set()
        return entry

    def cancel(self, entry: Entry) -> None:
        """Forget a request: at once while it is queued, before the next step once it runs."""
        entry.cancelled = True
        entry.stream.discard()
        if entry in self._queue:
            self._queue.remove(entry)
            self._metrics.queue_size.set(len(self._queue))

    async def _run(self) -> None:
        while True:
            await self._wait_for_work()
            try:
                await self._advance()
            except Exception:
                logger.exception("the batcher failed; the requests it was running end with an error")
                await self._start_over()

    async def _wait_for_work(self) -> None:
        while not self._batches and not self._queue:
            self.progress.work_done()
            self._show_state()
            self._work.clear()
            await self._work.wait()

    async def _advance(self) -> None:
        """Run one step, with new requests if there is room for any."""
        await self._settle()
        room = self._room()
        new = None if room is None else self._admission.choose(self._queue, room)
        if new is not None:
            self._note_start(new)
            await self._prefill(new)
        elif self._batches:
            await self._decode()
        elif self._queue:
            self._refuse_first()
        self._show_state()

    async def _settle(self) -> None:
        """Bring the shards' batches down to the requests that still want an answer.

        Shards may go on with requests that ended until they are told; and readers may have left meanwhile.
        """
        for batch in tuple(self._batches):
            known = set(batch.cached.request_ids)
            for entry in [entry for entry in batch.entries.values() if entry.id not in known]:
                self._delivery.fail(entry, ShardError("the shard has lost the request"))
                del batch.entries[entry.id]
            wanted = [entry.id for entry in batch.entries.values() if not entry.cancelled]
            if len(wanted) != len(known):
                await self._narrow(batch, wanted)

    async def _narrow(self, batch: RunningBatch, wanted: Sequence[int]) -> None:
        """Keep only the wanted requests of a batch; the blocks of others are free once the shards know."""
        try:
            if wanted:
                batch.cached = await self._steps.filter(batch.cached, wanted, self._last_method)
            else:
                await self._shards.clear_cache(batch.cached.id)
                self._batches.remove(batch)
        except ShardError as error:
            await self._lose([batch], error)
            return
        # Not all that are cancelled by now: the shards still hold who left while they were being told.
        for request_id in batch.entries.keys() - set(wanted):
            self._delivery.drop(batch.entries.pop(request_id))

    def _room(self) -> Room | None:
        """What the next step has left for new requests; None if it may take none."""
        limits = self._limits
        if not self._batches:
            return Room(limits.max_batch_prefill_tokens, limits.max_batch_total_tokens, limits.max_batch_size)
        if len(self._batches) > 1:
            return None
        running = self._batches[0]
        size = len(running.entries)
        requests = None if limits.max_batch_size is None else limits.max_batch_size - size
        tokens = limits.max_batch_total_tokens - running.cached.max_tokens
        if self._chunking:
            prefill = limits.max_batch_prefill_tokens - running.cached.current_tokens
            return Room(prefill, tokens, requests)
        min_requests = 0 if self._wait_exceeded else int(size * self._policy.waiting_served_ratio)
        return Room(limits.max_batch_prefill_tokens, tokens, requests, min_requests)

    @property
    def _wait_exceeded(self) -> bool:
        """Whether new requests have waited long enough to join however few they are."""
        return self._waiting_tokens >= self._policy.max_waiting_tokens

    async def _prefill(self, new: NewBatch) -> None:
        batch = RunningBatch(
            pb.CachedBatch(id=next(self._batch_ids)), {entry.id: entry for entry in new.entries}
        )
        beside = self._batches[:] if self._chunking else []
        running = beside[0].cached if beside else None
        self._batches.append(batch)
        self._waiting_tokens = 1
        await self._step("prefill", [*beside, batch], self._steps.prefill(batch.cached.id, new, running))

    async def _decode(self) -> None:
        batches = self._batches[:]
        self._waiting_tokens += 1
        await self._step("decode", batches, self._steps.decode([batch.cached for batch in batches]))

    async def _step(self, method: str, batches: Sequence[RunningBatch], call: Awaitable[StepResult]) -> None:
        """Await a step of some batches and replace them by what is left of them, as one batch."""
        try:
            result = await call
        except ShardError as error:
            logger.error(f"{method} failed", requests=sum(len(b.entries) for b in batches), error=str(error))
            await self._lose(batches, error)
            return
        finally:
            self.progress.step_finished()
        self._last_method = method
        entries = {entry.id: entry for batch in batches for entry in batch.entries.values()}
        self._delivery.deliver(entries, result)
        if result.batch is not None:
            self._replace(batches, RunningBatch(result.batch, entries))
        else:
            self._delivery.fail_all(entries.values(), ShardError("the shard has lost the request"))
            self._replace(batches)

    async def _lose(self, batches: Sequence[RunningBatch], error: ShardError) -> None:
        """End the requests of batches that failed, and have the shards forget what they hold of them."""
        for batch in batches:
            self._delivery.fail_all(batch.entries.values(), error)
        self._replace(batches)
        if isinstance(error, ShardUnavailableError):
            # Without a shard nobody can be served; waiting would only hide it.
            self._delivery.fail_all(self._queue.pop_all(), error)
            return
        for batch in batches:
            try:
                await self._shards.clear_cache(batch.cached.id)
            except ShardError as failure:
                logger.error("a lost batch could not be cleared", batch=batch.cached.id, error=str(failure))

    def _replace(self, batches: Sequence[RunningBatch], by: RunningBatch | None = None) -> None:
        kept = [batch for batch in self._batches if batch not in batches]
        self._batches = kept if by is None else [*kept, by]

    def _refuse_first(self) -> None:
        """Fail the request at the head of the queue, which does not fit though nothing else runs."""
        entry = next(iter(self._queue))
        self._queue.remove(entry)
        self._delivery.fail(entry, RequestTooLargeError("the request does not fit into an empty batch"))

    async def _start_over(self) -> None:
        """After an error that should not exist: end what was running, and begin with an empty memory."""
        error = ShardError("internal error while batching")
        stuck = [entry for batch in self._batches for entry in batch.entries.values()]
        if not stuck:
            # Nothing was running, so the fault lies with the request that was to be admitted.
            stuck = list(self._queue)[:1]
        for entry in stuck:
            entry.stream.end(error)
            if entry in self._queue:
                self._queue.remove(entry)
        self._batches.clear()
        if self._allocator is not None:
            self._allocator.reset()
        try:
            await self._shards.clear_cache()
        except Exception:
            logger.exception("the shards could not be cleared")

    def _note_start(self, new: NewBatch) -> None:
        metrics = self._metrics
        metrics.batch_next_size.observe(len(new.entries))
        for entry in new.entries:
            if entry.allocation is not None and entry.cacheable and self._shard.use_prefix_caching:
                metrics.prefix_cache_query_tokens.inc(entry.request.input_length)
                metrics.prefix_cache_hit_tokens.inc(entry.allocation.prefix_length)
        if self._batches:
            unchunked = "wait_exceeded" if self._wait_exceeded else "backpressure"
            metrics.batch_concat.labels("chunking" if self._chunking else unchunked).inc()

    def _show_state(self) -> None:
        metrics = self._metrics
        metrics.queue_size.set(len(self._queue))
        metrics.batch_current_size.set(sum(len(batch.entries) for batch in self._batches))
        metrics.batch_current_max_tokens.set(sum(batch.cached.max_tokens for batch in self._batches))
        if self._allocator is not None:
            metrics.kv_blocks_used.set(self._allocator.used)
            metrics.kv_blocks_cached.set(self._allocator.cached)


def _make_allocator(limits: ServerLimits) -> BlockAllocator | None:
    shard = limits.shard
    if shard.requires_padding:
        return None
    cache = PrefixCache(shard.block_size) if shard.use_prefix_caching else None
    return BlockAllocator(limits.block_count, shard.block_size, cache)


def _make_admission(limits: ServerLimits, allocator: BlockAllocator | None) -> Admission:
    return PaddedAdmission(limits) if allocator is None else PagedAdmission(allocator, limits)
