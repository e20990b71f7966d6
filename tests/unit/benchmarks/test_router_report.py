"""What is kept of a measurement of the router."""

import json
from pathlib import Path

from benchmarks.machine import Revision, describe_machine
from benchmarks.router.record import CASES, RouterRecord, RouterRun
from benchmarks.router.report import save_report


def run(number: int, tokens_per_s: float) -> RouterRun:
    return RouterRun(
        case=CASES[0].name,
        route="/generate_stream",
        round=number,
        tokens=1000,
        tokens_per_s=tokens_per_s,
        added_p50_ms=1.25,
        added_p99_ms=2.5,
        added_max_ms=12.5,
        cpu_us=15.0,
        kernel_us=4.0,
        disturbance=0.0,
        attempt=1,
    )


def test_the_page_has_medians_with_their_spread_and_the_conditions(tmp_path: Path) -> None:
    record = RouterRecord(
        name="router",
        date="2026-01-02T03:04:05+00:00",
        load_before=0.25,
        machine=describe_machine(),
        revision=Revision("0123456789abcdef", 0),
        versions={"uvloop": "1.0"},
        cases=CASES,
        runs=(run(1, 40_000), run(2, 60_000), run(3, 50_000)),
    )

    page = save_report(record, tmp_path)

    assert page.name == "2026-01-02-router.md"
    text = page.read_text()
    row = "| 256 streams, steps of 0 ms | `/generate_stream` | 50,000 (40,000-60,000) | 1.25 (1.25-1.25) |"
    assert row in text
    assert "rounds (3)" in text
    assert "- Source: 0123456789ab\n" in text
    kept = json.loads(page.with_suffix(".json").read_bytes())
    assert [each["tokens_per_s"] for each in kept["runs"]] == [40_000, 60_000, 50_000]
    assert kept["cases"][0]["streams"] == 256
