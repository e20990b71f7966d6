"""The batcher's state in metrics: what waits, what runs, how the memory is used."""

from collections.abc import Sequence

from tgi_router.batching.blocks import BlockAllocator
from tgi_router.batching.budget import NewBatch
from tgi_router.batching.flight import RunningBatch
from tgi_router.batching.queue import RequestQueue
from tgi_router.client.warmup import ServerLimits
from tgi_router.telemetry.metrics import Metrics


class StateMetrics:
    """Shows the batcher's state.

    Args:
        metrics: where.
        limits: what there is room for.
        allocator: the KV blocks; None for shards that take none.
    """

    def __init__(self, metrics: Metrics, limits: ServerLimits, allocator: BlockAllocator | None) -> None:
        self._metrics = metrics
        self._shard = limits.shard
        self._allocator = allocator
        metrics.batch_max_total_tokens.set(limits.max_batch_total_tokens)
        metrics.kv_blocks_total.set(allocator.capacity if allocator else 0)

    def show(self, queue: RequestQueue, batches: Sequence[RunningBatch], running: int) -> None:
        """Set the gauges; `running` counts the requests that were sent."""
        metrics = self._metrics
        metrics.queue_size.set(len(queue))
        metrics.batch_current_size.set(running)
        metrics.batch_current_max_tokens.set(sum(batch.cached.max_tokens for batch in batches))
        if self._allocator is not None:
            metrics.kv_blocks_used.set(self._allocator.used)
            metrics.kv_blocks_cached.set(self._allocator.cached)

    def count_start(self, new: NewBatch) -> None:
        """Count requests that start."""
        metrics = self._metrics
        metrics.batch_next_size.observe(len(new.entries))
        for entry in new.entries:
            if entry.allocation is not None and entry.cacheable and self._shard.use_prefix_caching:
                metrics.prefix_cache_query_tokens.inc(entry.request.input_length)
                metrics.prefix_cache_hit_tokens.inc(entry.allocation.prefix_length)

    def count_join(self, *, wait_exceeded: bool) -> None:
        """Count that new requests join running ones, and why they may."""
        unchunked = "wait_exceeded" if wait_exceeded else "backpressure"
        self._metrics.batch_concat.labels("chunking" if self._shard.support_chunking else unchunked).inc()
