"""The calls that a running batch lives on, written for the shards and measured."""

import time
from collections.abc import Awaitable, Iterable, Sequence

from tgi_proto import generate_pb2 as pb
from tgi_router.batching.budget import NewBatch
from tgi_router.batching.entry import Entry
from tgi_router.client.group import Shards
from tgi_router.client.messages import Placement, ShardInfo, StepResult, write_request
from tgi_router.generation import ShardError
from tgi_router.telemetry.metrics import Metrics


class Steps:
    """Prefill, decode and filter, with their metrics. Every call raises ShardError.

    A step that was sent ahead is measured from the answer before it: only then could the shards begin it.
    """

    def __init__(self, shards: Shards, info: ShardInfo, metrics: Metrics) -> None:
        self._shards = shards
        self._info = info
        self._metrics = metrics
        self._answered_at = 0.0

    async def prefill(
        self, batch_id: int, new: NewBatch, running: pb.CachedBatch | None, *, ahead: bool
    ) -> StepResult:
        """Run the first step of new requests, beside a running batch if there is one."""
        started_at = time.monotonic()
        for entry in new.entries:
            entry.started_at = started_at
        batch = self._write_batch(batch_id, new)
        return await self._measure("prefill", self._shards.prefill(batch, running, ahead=ahead))

    async def decode(self, batches: Sequence[pb.CachedBatch], *, ahead: bool) -> StepResult:
        """Run one more step of running batches; several become one."""
        return await self._measure("decode", self._shards.decode(batches, ahead=ahead))

    async def filter(self, batch: pb.CachedBatch, keep: Iterable[int], after: str) -> pb.CachedBatch:
        """Drop all requests of a batch but some.

        Args:
            batch: the batch.
            keep: ids of the requests to keep.
            after: the kind of step that came before, for the metrics.
        """
        started_at = time.monotonic()
        kept = await self._shards.filter_batch(batch.id, keep)
        duration = self._metrics.batch_filter_duration.labels(after)
        duration.observe(time.monotonic() - started_at)
        return kept

    async def _measure(self, method: str, call: Awaitable[StepResult]) -> StepResult:
        metrics = self._metrics
        metrics.batch_inference_count.labels(method).inc()
        sent_at = time.monotonic()
        try:
            result = await call
        except ShardError:
            metrics.batch_inference_failure.labels(method).inc()
            raise
        finally:
            began_at, self._answered_at = max(sent_at, self._answered_at), time.monotonic()
        metrics.batch_inference_duration.labels(method).observe(self._answered_at - began_at)
        metrics.batch_inference_success.labels(method).inc()
        metrics.batch_forward_duration.labels(method).observe(result.forward_seconds)
        metrics.batch_decode_duration.labels(method).observe(result.decode_seconds)
        if result.concat_seconds is not None:
            metrics.batch_concat_duration.labels(method).observe(result.concat_seconds)
        return result

    def _write_batch(self, batch_id: int, new: NewBatch) -> pb.Batch:
        allocations = [entry.allocation for entry in new.entries if entry.allocation is not None]
        return pb.Batch(
            id=batch_id,
            requests=[
                write_request(entry.id, entry.request, _placement(entry), self._info) for entry in new.entries
            ],
            size=len(new.entries),
            max_tokens=new.max_tokens,
            max_blocks=max((len(allocation.blocks) for allocation in allocations), default=0),
        )


def _placement(entry: Entry) -> Placement | None:
    allocation = entry.allocation
    if allocation is None:
        return None
    return Placement(
        blocks=allocation.blocks,
        tokens=allocation.tokens,
        prefix_length=allocation.prefix_length,
        chunk_length=entry.chunk_length,
    )
