"""The metrics of a step's tokens."""

from tgi_router.telemetry.metrics import Metrics


class StepTally:
    """Counts what a step brought its requests.

    Nearly all of them got as many tokens as the others, and had their last ones in the same step as the
    others, so a few observations, each so many times over, stand for all tokens.

    Args:
        now: when the step was answered, `time.monotonic()` seconds.
    """

    __slots__ = ("_now", "_requests")

    def __init__(self, now: float) -> None:
        self._now = now
        self._requests: dict[tuple[float | None, int], int] = {}

    def add(self, last_token_at: float | None, tokens: int) -> None:
        """Count a request that got so many tokens, and when it had had its last one; None for never."""
        kind = (last_token_at, tokens)
        self._requests[kind] = self._requests.get(kind, 0) + 1

    def record(self, metrics: Metrics) -> None:
        """Write down what was counted."""
        for (last_token_at, tokens), requests in self._requests.items():
            metrics.request_skipped_tokens.observe(tokens - 1, requests)
            if last_token_at is not None:
                gap = (self._now - last_token_at) / tokens
                metrics.request_inter_token_latency_duration.observe(gap, tokens * requests)
