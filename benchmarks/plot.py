"""A benchmark as a picture: a bar for each server and case, with the spread over the rounds."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.record import Record
from benchmarks.summary import Spread, Summary, summarize

_BARS_WIDTH = 0.8
"""Share of a case's room that its bars fill."""


def save_plot(record: Record, path: Path) -> None:
    """Draw throughput, time between tokens and time to the first token side by side, as PNG."""
    figure = Figure(figsize=(max(12.0, 3.0 * len(record.cases)), 4.5), layout="constrained")
    throughput, between, first = figure.subplots(1, 3)
    for position, server in enumerate(record.servers):
        rows = [summarize(record.rounds, server, case.name) for case in record.cases]
        _draw_bars(throughput, rows, [row.output_tokens_per_s for row in rows], position, len(record.servers))
        _draw_bars(between, rows, [row.itl_p50_ms for row in rows], position, len(record.servers))
        _draw_bars(first, rows, [row.ttft_p50_ms for row in rows], position, len(record.servers))
    throughput.set_ylabel("output tokens per second")
    between.set_ylabel("time between tokens, median (ms)")
    first.set_ylabel("time to the first token, median (ms)")
    for axes in (throughput, between, first):
        axes.set_xticks(
            range(len(record.cases)), [case.name for case in record.cases], rotation=20, ha="right"
        )
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend()
    figure.suptitle(f"{record.model}, {record.dtype}, {record.machine.usable_cpus} CPUs, {record.date[:10]}")
    figure.savefig(path, dpi=120)


def _draw_bars(axes: Axes, rows: list[Summary], spreads: list[Spread], position: int, count: int) -> None:
    width = _BARS_WIDTH / count
    places = [index - _BARS_WIDTH / 2 + width * (position + 0.5) for index in range(len(rows))]
    heights = [0.0 if math.isnan(spread.median) else spread.median for spread in spreads]
    below = [
        height - spread.lowest if height else 0.0 for height, spread in zip(heights, spreads, strict=True)
    ]
    above = [
        spread.highest - height if height else 0.0 for height, spread in zip(heights, spreads, strict=True)
    ]
    axes.bar(places, heights, width, yerr=[below, above], capsize=3, label=rows[0].server)
