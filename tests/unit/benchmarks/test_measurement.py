"""Figures from records, and summaries from figures."""

import math
from typing import Any

import pytest

from benchmarks.measurement import Answer, Measurement, RunRecord, measure, percentile
from benchmarks.rounds import ServerRound, count_errors
from benchmarks.summary import Spread, compare, summarize

WHOLE = Answer(sent=10.0, arrivals=(10.5, 10.6, 10.8), prompt_tokens=100, output_tokens=3)
LATER = Answer(sent=11.0, arrivals=(11.1, 11.4), prompt_tokens=100, output_tokens=2)
FAILED = Answer(error="status 500: oh")


def test_figures_are_made_of_what_was_answered() -> None:
    figures = measure(RunRecord((WHOLE, FAILED, LATER), wall_s=2.0))
    assert (figures.requests, figures.errors, figures.first_error) == (3, 1, "status 500: oh")
    assert (figures.prompt_tokens, figures.output_tokens) == (200, 5)
    assert figures.output_tokens_per_s == 2.5
    assert figures.ttft_p50_ms == pytest.approx(100)
    assert figures.ttft_p99_ms == pytest.approx(500)
    # Gaps: 100, 200 and 300 ms; the time between two requests is none.
    assert figures.itl_p50_ms == pytest.approx(200)
    assert figures.itl_p99_ms == pytest.approx(300)


def test_without_an_answer_there_are_no_times() -> None:
    figures = measure(RunRecord((FAILED,), wall_s=1.0))
    assert figures.output_tokens_per_s == 0
    assert math.isnan(figures.ttft_p50_ms)
    assert math.isnan(figures.itl_p99_ms)


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (50, 50), (99, 99), (100, 100)])
def test_percentiles_are_by_nearest_rank(percent: int, expected: int) -> None:
    assert percentile(range(1, 101), percent) == expected
    assert percentile([7.0], percent) == 7.0


def test_a_spread_has_the_middle_and_the_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert Spread.of([4.0, 1.0, 2.0, 3.0]) == Spread(2.5, 1.0, 4.0)
    assert Spread.of([math.nan, 5.0]) == Spread(5.0, 5.0, 5.0)
    assert math.isnan(Spread.of([]).median)


def figures(**values: Any) -> Measurement:
    neutral: dict[str, Any] = dict.fromkeys(Measurement.__dataclass_fields__, 0)
    return Measurement(**{**neutral, **values})


def a_round(server: str, number: int, **values: Any) -> ServerRound:
    return ServerRound(server, number, 1.0, 0.0, measurements={"c": figures(**values)}, memory={})


ROUNDS = [
    a_round("ours", 1, output_tokens_per_s=100.0, itl_p50_ms=10.0, errors=1),
    a_round("peer", 1, output_tokens_per_s=50.0, itl_p50_ms=20.0),
    a_round("peer", 2, output_tokens_per_s=25.0, itl_p50_ms=40.0),
    a_round("ours", 2, output_tokens_per_s=100.0, itl_p50_ms=10.0, errors=2),
    a_round("ours", 3, output_tokens_per_s=300.0, itl_p50_ms=10.0),
]


def test_a_summary_is_of_one_server_over_its_rounds() -> None:
    ours = summarize(ROUNDS, "ours", "c")
    assert ours.output_tokens_per_s == Spread(100.0, 100.0, 300.0)
    assert ours.errors == 3
    assert summarize(ROUNDS, "peer", "c").itl_p50_ms == Spread(30.0, 20.0, 40.0)
    assert count_errors(ROUNDS) == 3


def test_ratios_are_taken_round_by_round() -> None:
    ratios = compare(ROUNDS, "ours", "peer", "c")
    assert ratios.output_tokens_per_s == Spread(3.0, 2.0, 4.0)
    assert ratios.itl_p50_ms == Spread(0.375, 0.25, 0.5)
    assert math.isnan(ratios.ttft_p50_ms.median)
