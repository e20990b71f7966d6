"""What single instruments hold and how they print it."""

import math

from tgi_router.telemetry.instruments import Summary, format_number


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def quantiles(summary: Summary) -> dict[str, float]:
    return {labels["quantile"]: value for suffix, labels, value in summary.samples() if not suffix}


def total(summary: Summary) -> tuple[float, float]:
    figures = {suffix: value for suffix, _, value in summary.samples() if suffix}
    return figures["_sum"], figures["_count"]


def test_an_empty_summary_has_zero_quantiles() -> None:
    assert quantiles(Summary()) == dict.fromkeys(["0", "0.5", "0.9", "0.95", "0.99", "0.999", "1"], 0)


def test_a_summary_finds_quantiles_of_repeated_values() -> None:
    summary = Summary()
    summary.observe(0, times=90)
    summary.observe(3, times=9)
    summary.observe(7)

    found = quantiles(summary)
    assert (found["0"], found["0.5"], found["0.9"]) == (0, 0, 0)
    assert (found["0.95"], found["0.99"]) == (3, 3)
    assert (found["0.999"], found["1"]) == (7, 7)
    assert total(summary) == (34, 100)


def test_a_summary_forgets_values_after_a_minute_but_keeps_its_sums() -> None:
    clock = Clock()
    summary = Summary(clock)
    summary.observe(5)
    clock.now += 30
    assert quantiles(summary)["1"] == 5

    clock.now += 31
    assert quantiles(summary)["1"] == 0
    assert total(summary) == (5, 1)


def test_numbers_print_as_scrapers_and_people_read_them() -> None:
    numbers = [0, 3, 2.0, 0.25, 1e-7, math.inf, -math.inf, math.nan]
    assert [format_number(n) for n in numbers] == ["0", "3", "2", "0.25", "1e-07", "+Inf", "-Inf", "NaN"]
