"""Keeps a measurement of the router: JSON for programs, Markdown for people, under one name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from benchmarks.router.record import RouterRecord, RouterRun
from benchmarks.summary import Spread

_COLUMNS: dict[str, Callable[[RouterRun], float]] = {
    "tok/s": lambda run: run.tokens_per_s,
    "added p50 ms": lambda run: run.added_p50_ms,
    "added p99 ms": lambda run: run.added_p99_ms,
    "longest ms": lambda run: run.added_max_ms,
    "CPU us/token": lambda run: run.cpu_us,
    "of it kernel": lambda run: run.kernel_us,
    "others %": lambda run: 100 * run.disturbance,
}


def save_report(record: RouterRecord, folder: Path) -> Path:
    """Write `<date>-<name>`.json and .md, over earlier ones of that name; answer the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{record.date[:10]}-{record.name}"
    json_text = msgspec.json.format(msgspec.json.encode(asdict(record)), indent=2)
    (folder / f"{stem}.json").write_bytes(json_text + b"\n")
    page = folder / f"{stem}.md"
    page.write_text(render_page(record))
    return page


def render_page(record: RouterRecord) -> str:
    """Write the page of a measurement."""
    parts = [
        f"# The router over a stub shard, {record.date[:10]}",
        "\n".join(_conditions(record)),
        f"Figures are medians over the rounds ({max(run.round for run in record.runs)}), with the lowest and "
        "highest in brackets. Added: time from the shard's answer of a step to the client's receipt of a "
        "token in it. CPU: processor time of the router's process. Others: how much of its processor's time "
        "went to other processes; of the attempts at a run, the least disturbed one is kept.",
        "\n".join(_table(record)),
    ]
    return "\n\n".join(parts) + "\n"


def _conditions(record: RouterRecord) -> Iterator[str]:
    machine = record.machine
    yield (
        f"- Machine: {machine.cpu}, {machine.usable_cpus} CPUs usable; {machine.system}, Python "
        f"{machine.python}; the router on a CPU of its own"
    )
    if record.revision is not None:
        changed = record.revision.changed_files
        yield f"- Source: {record.revision.commit[:12]}" + (
            f" with {changed} changed files" if changed else ""
        )
    yield "- Versions: " + ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield f"- Load average before the start: {record.load_before:.1f}"


def _table(record: RouterRecord) -> Iterator[str]:
    yield f"| case | route | {' | '.join(_COLUMNS)} |"
    yield "| --- " * (2 + len(_COLUMNS)) + "|"
    for case, route in dict.fromkeys((run.case, run.route) for run in record.runs):
        runs = [run for run in record.runs if (run.case, run.route) == (case, route)]
        yield f"| {case} | `{route}` | {' | '.join(_spread(runs, figure) for figure in _COLUMNS.values())} |"


def _spread(runs: Sequence[RouterRun], figure: Callable[[RouterRun], float]) -> str:
    spread = Spread.of([figure(run) for run in runs])
    digits = 0 if spread.median >= 1000 else 1 if spread.median >= 10 else 2
    return f"{spread.median:,.{digits}f} ({spread.lowest:,.{digits}f}-{spread.highest:,.{digits}f})"
