"""Brings the rounds of a benchmark down to one row for each server and case, and one for each comparison."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measurement import Measurement
from benchmarks.memory import ServerMemory
from benchmarks.rounds import ServerRound


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds; NaN if no round gave one."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarize the values that are numbers; of an even count, the median is midway between two."""
        ordered = sorted(value for value in values if not math.isnan(value))
        if not ordered:
            return cls(math.nan, math.nan, math.nan)
        middle = (len(ordered) - 1) / 2
        median = (ordered[math.floor(middle)] + ordered[math.ceil(middle)]) / 2
        return cls(median, ordered[0], ordered[-1])


@dataclass(frozen=True, slots=True)
class MemorySummary:
    """What a server held after a case, in bytes; NaN where it is not known.

    Attributes:
        proportional: all its processes, shared pages counted once.
        resident: the resident set of the largest process: in this server, a shard.
        peak_resident: the most that was ever resident of it.
        kv_cache: the KV blocks that hold something, of all shards together.
    """

    proportional: Spread
    resident: Spread
    peak_resident: Spread
    kv_cache: Spread


@dataclass(frozen=True, slots=True)
class Summary:
    """One server in one case, over all rounds."""

    server: str
    case: str
    output_tokens_per_s: Spread
    itl_p50_ms: Spread
    itl_p99_ms: Spread
    ttft_p50_ms: Spread
    ttft_p99_ms: Spread
    memory: MemorySummary
    errors: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A server's figures divided by a peer's, round by round: both sides of a ratio are minutes apart."""

    server: str
    peer: str
    case: str
    output_tokens_per_s: Spread
    itl_p50_ms: Spread
    ttft_p50_ms: Spread


def summarize(rounds: Sequence[ServerRound], server: str, case: str) -> Summary:
    """Summarize what a server did in a case."""
    its_rounds = [each for each in rounds if each.server == server]
    figures = [each.measurements[case] for each in its_rounds]
    return Summary(
        server=server,
        case=case,
        output_tokens_per_s=Spread.of([each.output_tokens_per_s for each in figures]),
        itl_p50_ms=Spread.of([each.itl_p50_ms for each in figures]),
        itl_p99_ms=Spread.of([each.itl_p99_ms for each in figures]),
        ttft_p50_ms=Spread.of([each.ttft_p50_ms for each in figures]),
        ttft_p99_ms=Spread.of([each.ttft_p99_ms for each in figures]),
        memory=_summarize_memory([each.memory[case] for each in its_rounds if case in each.memory]),
        errors=sum(each.errors for each in figures),
    )


def _summarize_memory(readings: Sequence[ServerMemory]) -> MemorySummary:
    largest = [reading.processes[0] for reading in readings]
    return MemorySummary(
        proportional=Spread.of([reading.proportional for reading in readings]),
        resident=Spread.of([process.resident for process in largest]),
        peak_resident=Spread.of([process.peak_resident for process in largest]),
        kv_cache=Spread.of([reading.kv_cache for reading in readings if reading.kv_cache is not None]),
    )


def compare(rounds: Sequence[ServerRound], server: str, peer: str, case: str) -> Comparison:
    """Divide a server's figures in a case by a peer's."""
    ours = {each.round: each.measurements[case] for each in rounds if each.server == server}
    theirs = {each.round: each.measurements[case] for each in rounds if each.server == peer}
    pairs = [(ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys())]
    return Comparison(
        server=server,
        peer=peer,
        case=case,
        output_tokens_per_s=_ratios(pairs, "output_tokens_per_s"),
        itl_p50_ms=_ratios(pairs, "itl_p50_ms"),
        ttft_p50_ms=_ratios(pairs, "ttft_p50_ms"),
    )


def _ratios(pairs: Sequence[tuple[Measurement, Measurement]], figure: str) -> Spread:
    values = [(getattr(ours, figure), getattr(theirs, figure)) for ours, theirs in pairs]
    return Spread.of([one / other if other else math.nan for one, other in values])
