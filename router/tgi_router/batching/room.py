"""How much room the next step has for new requests."""

from collections.abc import Sequence
from dataclasses import dataclass

from tgi_router.batching.budget import Room
from tgi_router.batching.flight import RunningBatch
from tgi_router.client.warmup import ServerLimits


@dataclass(frozen=True, slots=True)
class JoinPolicy:
    """When new requests may make running ones wait, on shards that compute whole prompts only (TGI's rules).

    Attributes:
        waiting_served_ratio: join once there are so many new requests for each running one, ...
        max_waiting_tokens: ... or once the running ones have taken so many steps alone.
    """

    waiting_served_ratio: float = 0.3
    max_waiting_tokens: int = 20


class StepRoom:
    """Measures the next step by the limits.

    Args:
        limits: what a step and a batch may grow to.
        policy: who waits for whom, on shards that cannot chunk.
    """

    def __init__(self, limits: ServerLimits, policy: JoinPolicy) -> None:
        self._limits = limits
        self._shard = limits.shard
        self._policy = policy
        self._waiting_tokens = 1

    @property
    def wait_exceeded(self) -> bool:
        """Whether new requests have waited long enough to join however few they are."""
        return self._waiting_tokens >= self._policy.max_waiting_tokens

    def note_prefill(self) -> None:
        """Begin to count how long new requests wait."""
        self._waiting_tokens = 1

    def note_decode(self) -> None:
        """Count a step that the running requests take alone."""
        self._waiting_tokens += 1

    def measure(self, batches: Sequence[RunningBatch], running: int, *, ahead: bool) -> Room | None:
        """What the next step has left for new requests; None if it may take none.

        Args:
            batches: what the shards hold.
            running: how many requests run, those in flight included.
            ahead: whether the step before is in flight. It must leave no prompt to compute, so that each
                request that has not ended by then computes one token next.
        """
        limits = self._limits
        if not batches:
            return Room(limits.max_batch_prefill_tokens, limits.max_batch_total_tokens, limits.max_batch_size)
        if len(batches) > 1:
            return None
        requests = None if limits.max_batch_size is None else limits.max_batch_size - running
        cached = batches[0].cached
        tokens = limits.max_batch_total_tokens - cached.max_tokens
        if not self._shard.support_chunking:
            min_requests = 0 if self.wait_exceeded else int(running * self._policy.waiting_served_ratio)
            return Room(limits.max_batch_prefill_tokens, tokens, requests, min_requests)
        next_tokens = running * (1 + self._shard.speculate) if ahead else cached.current_tokens
        return Room(limits.max_batch_prefill_tokens - next_tokens, tokens, requests)
