"""What the metrics say of the tokens of a step."""

import pytest

from tgi_router.batching.tally import StepTally
from tgi_router.telemetry.metrics import Metrics


def figures(metrics: Metrics, name: str) -> tuple[float, float]:
    """Sum and count of a histogram or a summary."""
    lines = metrics.exposition().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return float(found[f"tgi_{name}_sum"]), float(found[f"tgi_{name}_count"])


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(max_input_tokens=100, max_total_tokens=200)


def test_the_time_between_tokens_is_counted_for_each_token(metrics: Metrics) -> None:
    tally = StepTally(now=10.0)
    tally.add(9.5, 1)
    tally.add(9.5, 1)
    tally.add(9.0, 2)
    tally.record(metrics)
    assert figures(metrics, "request_inter_token_latency_duration") == (pytest.approx(4 * 0.5), 4)


def test_a_first_token_follows_no_other(metrics: Metrics) -> None:
    tally = StepTally(now=10.0)
    tally.add(None, 1)
    tally.record(metrics)
    assert figures(metrics, "request_inter_token_latency_duration") == (0, 0)
    assert figures(metrics, "request_skipped_tokens") == (0, 1)


def test_tokens_gained_by_speculation_are_those_beyond_the_first(metrics: Metrics) -> None:
    tally = StepTally(now=10.0)
    tally.add(9.0, 3)
    tally.add(9.0, 1)
    tally.record(metrics)
    assert figures(metrics, "request_skipped_tokens") == (2, 2)
