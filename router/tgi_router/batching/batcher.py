"""The single task that talks to the shards: it admits requests, runs steps, hands out what they make."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence

import structlog

from tgi_proto import generate_pb2 as pb
from tgi_router.batching.blocks import BlockAllocator
from tgi_router.batching.budget import (
    Admission,
    NewBatch,
    PaddedAdmission,
    PagedAdmission,
    RequestTooLargeError,
)
from tgi_router.batching.delivery import Delivery
from tgi_router.batching.entry import Entry
from tgi_router.batching.flight import Flight, RunningBatch
from tgi_router.batching.prefix_cache import PrefixCache
from tgi_router.batching.progress import Progress
from tgi_router.batching.queue import RequestQueue
from tgi_router.batching.room import JoinPolicy, StepRoom
from tgi_router.batching.state_metrics import StateMetrics
from tgi_router.batching.steps import Steps
from tgi_router.client.group import Shards
from tgi_router.client.shard import ShardUnavailableError
from tgi_router.client.warmup import ServerLimits
from tgi_router.generation import ShardError, ValidRequest
from tgi_router.telemetry.metrics import Metrics

logger = structlog.get_logger(__name__)


class Batcher:
    """Runs all requests on the shards, in steps.

    There are at most two batches: the running one and, on shards that cannot compute a prompt beside running
    requests, the one that the next step joins to it.

    Where the shards allow it, the next step is sent before the last one is answered, so that they never wait
    for the router. The shards leave out who has ended by the time they run it. Requests that nobody wants any
    more are dropped while no step is in flight, and only then are their blocks free.

    Nothing that goes wrong ends its task: a failure ends the requests it concerns, and the rest goes on.
    """

    def __init__(
        self, shards: Shards, limits: ServerLimits, metrics: Metrics, policy: JoinPolicy | None = None
    ) -> None:
        self.progress = Progress()
        self._shards = shards
        self._steps = Steps(shards, limits.shard, metrics)
        self._metrics = metrics
        self._allocator = _make_allocator(limits)
        self._admission = _make_admission(limits, self._allocator)
        self._delivery = Delivery(self._allocator, metrics)
        self._state_metrics = StateMetrics(metrics, limits, self._allocator)
        self._step_room = StepRoom(limits, policy if policy is not None else JoinPolicy())
        self._queue = RequestQueue()
        self._chunking = limits.shard.support_chunking
        # Steps of shards that cannot chunk depend on each other's answers: which batch is joined, who waits.
        self._flight = Flight(limits.shard.max_inflight_steps if self._chunking else 1)
        self._last_method = "prefill"
        self._request_ids = itertools.count()
        self._batch_ids = itertools.count()
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

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
        self._delivery.fail_all([*self._queue.pop_all(), *self._flight.entries()], error)
        await self._flight.close()
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
        """Forget a request: at once while it is queued, before the next step that is sent once it runs."""
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
        while not self._flight.batches and not self._queue:
            self.progress.work_done()
            self._show_state()
            self._work.clear()
            await self._work.wait()

    async def _advance(self) -> None:
        """Do one thing: drop who left, send the next step, or hand out what the oldest one has brought."""
        if self._flight.empty:
            await self._settle()
        elif self._flight.full or self._flight.holds_leavers:
            await self._receive()
            return
        if self._send_step():
            return
        if not self._flight.empty:
            await self._receive()
        elif self._queue:
            self._refuse_first()

    async def _settle(self) -> None:
        """Bring the shards' batches down to the requests that still want an answer.

        Shards may go on with requests that ended until they are told; and readers may have left meanwhile.
        """
        for batch in tuple(self._flight.batches):
            wanted = [entry.id for entry in batch.entries.values() if not entry.cancelled]
            if batch.holds_leavers or not wanted:
                await self._narrow(batch, wanted)

    async def _narrow(self, batch: RunningBatch, wanted: Sequence[int]) -> None:
        """Keep only the wanted requests of a batch; the blocks of others are free once the shards know."""
        try:
            if wanted:
                batch.cached = await self._steps.filter(batch.cached, wanted, self._last_method)
            else:
                await self._shards.clear_cache(batch.cached.id)
                self._flight.batches.remove(batch)
        except ShardError as error:
            await self._lose([batch], error)
            return
        # Not all that are cancelled by now: the shards still hold who left while they were being told.
        for request_id in batch.entries.keys() - set(wanted):
            self._delivery.drop(batch.entries.pop(request_id))
        self._fail_lost(batch)

    def _send_step(self) -> bool:
        """Send the next step, with new requests if there is room for any; whether there was one to send."""
        flight = self._flight
        if self._queue and not flight.empty and flight.holds_cut_prompt:
            # How much room there is, the answer will tell.
            return False
        room = self._step_room.measure(flight.batches, flight.size, ahead=not flight.empty)
        new = None if room is None else self._admission.choose(self._queue, room)
        if new is not None:
            self._send_prefill(new)
        elif flight.size > 0 and (flight.empty or not flight.brings_all):
            self._send_decode()
        else:
            return False
        return True

    def _send_prefill(self, new: NewBatch) -> None:
        running = self._flight.batches
        self._state_metrics.count_start(new)
        if running:
            self._state_metrics.count_join(wait_exceeded=self._step_room.wait_exceeded)
        self._step_room.note_prefill()
        batch = RunningBatch(pb.CachedBatch(id=next(self._batch_ids)), {})
        beside = running[0] if running and self._chunking else None
        call = self._steps.prefill(
            batch.cached.id, new, beside.cached if beside else None, ahead=not self._flight.empty
        )
        entries = {entry.id: entry for entry in new.entries}
        self._flight.send("prefill", [beside, batch] if beside else [batch], entries, call)

    def _send_decode(self) -> None:
        self._step_room.note_decode()
        batches = self._flight.batches[:]
        call = self._steps.decode([batch.cached for batch in batches], ahead=not self._flight.empty)
        self._flight.send("decode", batches, {}, call)

    async def _receive(self) -> None:
        """Await the oldest answer and hand out its tokens. What is left of the step's batches becomes one."""
        step = await self._flight.land()
        self.progress.step_finished()
        batch = step.batches[0]
        try:
            result = step.answer.result()
        except ShardError as error:
            logger.error(f"{step.method} failed", requests=len(batch.entries), error=str(error))
            await self._lose(step.batches, error)
        else:
            self._last_method = step.method
            self._delivery.deliver(batch.entries, result)
            batch.cached = pb.CachedBatch(id=batch.cached.id) if result.batch is None else result.batch
            self._fail_lost(batch)
            if result.batch is None and not self._flight.needs(batch):
                self._flight.batches.remove(batch)
        self._show_state()

    def _fail_lost(self, batch: RunningBatch) -> None:
        """Fail the requests of a batch that the shards know nothing of."""
        for request_id in batch.entries.keys() - set(batch.cached.request_ids):
            self._delivery.fail(batch.entries.pop(request_id), ShardError("the shard has lost the request"))

    async def _lose(self, batches: Sequence[RunningBatch], error: ShardError) -> None:
        """End the requests of batches that failed, and have the shards forget what they hold of them.

        Steps that were sent ahead are lost with them. Nobody gets the blocks before the shards are done.
        """
        lost, entries = self._flight.give_up(batches)
        self._delivery.fail_all(entries, error)
        unavailable = isinstance(error, ShardUnavailableError)
        if unavailable:
            # Without a shard nobody can be served; waiting would only hide it.
            self._delivery.fail_all(self._queue.pop_all(), error)
        await self._flight.abandon()
        if unavailable:
            return
        for batch in lost:
            try:
                await self._shards.clear_cache(batch.cached.id)
            except ShardError as failure:
                logger.error("a lost batch could not be cleared", batch=batch.cached.id, error=str(failure))

    def _refuse_first(self) -> None:
        """Fail the request at the head of the queue, which does not fit though nothing else runs."""
        entry = next(iter(self._queue))
        self._queue.remove(entry)
        self._delivery.fail(entry, RequestTooLargeError("the request does not fit into an empty batch"))

    async def _start_over(self) -> None:
        """After an error that should not exist: end what was running, and begin with an empty memory."""
        error = ShardError("internal error while batching")
        stuck = list(self._flight.entries())
        if not stuck:
            # Nothing was running, so the fault lies with the request that was to be admitted.
            stuck = list(self._queue)[:1]
        for entry in stuck:
            entry.stream.end(error)
            if entry in self._queue:
                self._queue.remove(entry)
        self._flight.batches.clear()
        await self._flight.abandon()
        if self._allocator is not None:
            self._allocator.reset()
        try:
            await self._shards.clear_cache()
        except Exception:
            logger.exception("the shards could not be cleared")

    def _show_state(self) -> None:
        self._state_metrics.show(self._queue, self._flight.batches, self._flight.size)


def _make_allocator(limits: ServerLimits) -> BlockAllocator | None:
    shard = limits.shard
    if shard.requires_padding:
        return None
    cache = PrefixCache(shard.block_size) if shard.use_prefix_caching else None
    return BlockAllocator(limits.block_count, shard.block_size, cache)


def _make_admission(limits: ServerLimits, allocator: BlockAllocator | None) -> Admission:
    return PaddedAdmission(limits) if allocator is None else PagedAdmission(allocator, limits)
