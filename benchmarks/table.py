"""A benchmark as Markdown: the tables a reader wants first, and under which conditions they came about."""

import math
from collections.abc import Iterable, Iterator, Mapping

from benchmarks.record import Record
from benchmarks.summary import Spread, compare, summarize


def render_table(record: Record) -> str:
    """Write the page of a benchmark; its plot lies beside it."""
    stem = f"{record.date[:10]}-{record.name}"
    parts = [
        f"# {record.model}, {record.dtype}, {record.date[:10]}",
        "\n".join(_conditions(record)),
        f"Figures are medians over the rounds ({max(each.round for each in record.rounds)}), with the lowest "
        "and highest in brackets. tok/s: output tokens over the whole run, prefill included. ITL: time "
        "between tokens. TTFT: time to the first token.",
        _figures(record),
        *_comparisons(record),
        *_memory(record),
        f"![Output tokens per second, time between tokens, time to the first token]({stem}.png)",
        _work(record),
    ]
    return "\n\n".join(parts) + "\n"


def _conditions(record: Record) -> Iterator[str]:
    machine = record.machine
    gpus = f", {', '.join(machine.gpus)}" if machine.gpus else ""
    yield (
        f"- Machine: {machine.cpu}, {machine.usable_cpus} CPUs usable, "
        f"{machine.memory_bytes / 2**30:.0f} GiB{gpus}; {machine.system}, Python {machine.python}"
    )
    if record.revision is not None:
        changed = record.revision.changed_files
        yield f"- Source: {record.revision.commit[:12]}" + (
            f" with {changed} changed files" if changed else ""
        )
    for name, settings in record.servers.items():
        versions = ", ".join(f"{package} {version}" for package, version in settings.versions.items())
        options = f"; options `{' '.join(settings.options)}`" if settings.options else ""
        variables = f"; {_variables(settings.environment)}" if settings.environment else ""
        yield f"- {name}: {versions or 'versions unknown'}{options}{variables}"
    if record.environment:
        yield f"- Environment: {_variables(record.environment)}"
    starts = (
        f"{name} {_spread(Spread.of([each.ready_s for each in record.rounds if each.server == name]))}"
        for name in record.servers
    )
    yield f"- Ready after (s): {', '.join(starts)}"
    busiest = max(each.load_before for each in record.rounds)
    yield f"- Load average before a server's start: {busiest:.1f} at most"


def _variables(environment: Mapping[str, str]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in environment.items())


def _figures(record: Record) -> str:
    rows = []
    for case in record.cases:
        for name in record.servers:
            row = summarize(record.rounds, name, case.name)
            times = (row.itl_p50_ms, row.itl_p99_ms, row.ttft_p50_ms, row.ttft_p99_ms)
            rows.append(
                [case.name, name, _spread(row.output_tokens_per_s), *map(_spread, times), str(row.errors)]
            )
    head = ["case", "server", "tok/s", "ITL p50 ms", "ITL p99 ms", "TTFT p50 ms", "TTFT p99 ms", "errors"]
    return _markdown(head, rows)


def _comparisons(record: Record) -> Iterator[str]:
    """One table for each peer: how many times its figures ours are."""
    server, *peers = record.servers
    for peer in peers:
        rows = []
        for case in record.cases:
            ratios = compare(record.rounds, server, peer, case.name)
            times = (ratios.output_tokens_per_s, ratios.itl_p50_ms, ratios.ttft_p50_ms)
            rows.append([case.name, *(_spread(ratio, digits=2) for ratio in times)])
        yield f"{server} ÷ {peer}, round by round (tok/s: above 1 is faster; times: below 1 is faster):"
        yield _markdown(["case", "tok/s", "ITL p50", "TTFT p50"], rows)


def _memory(record: Record) -> Iterator[str]:
    """A table of what the servers held: nothing if all were started by somebody else."""
    rows = []
    for case in record.cases:
        for name in record.servers:
            memory = summarize(record.rounds, name, case.name).memory
            beside = memory.resident.highest - record.weight_bytes - memory.kv_cache.highest
            figures = (memory.proportional, memory.resident, memory.peak_resident, memory.kv_cache)
            if not math.isnan(memory.resident.median):
                rows.append([case.name, name, *(_mib(each.highest) for each in figures), _mib(beside)])
    if rows:
        yield (
            "Memory after each case in MiB, the highest of the rounds. All: every process of the server, "
            "shared pages counted once. Resident: of the largest process alone (here a shard), with its peak "
            "since the start. KV: blocks that hold keys and values. Rest: resident, less KV and the model's "
            f"weights ({_mib(record.weight_bytes)})."
        )
        yield _markdown(["case", "server", "all", "resident", "peak", "KV", "rest"], rows)


def _mib(size: float) -> str:
    return "-" if math.isnan(size) else f"{size / 2**20:,.0f}"


def _work(record: Record) -> str:
    head = ["case", "streams", "requests", "prompt tokens", "of them shared", "output tokens"]
    rows = [
        [
            case.name,
            *map(
                str, (case.streams, case.requests, case.prompt_tokens, case.shared_tokens, case.output_tokens)
            ),
        ]
        for case in record.cases
    ]
    title = f"The work (greedy, end of sequence ignored, prompts of seed {record.seed}):"
    return f"{title}\n\n{_markdown(head, rows)}"


def _spread(spread: Spread, digits: int = 1) -> str:
    if math.isnan(spread.median):
        return "-"
    return f"{spread.median:,.{digits}f} ({spread.lowest:,.{digits}f}-{spread.highest:,.{digits}f})"


def _markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
