"""What is measured of the router, and what is kept of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.machine import Machine, Revision


@dataclass(frozen=True, slots=True)
class RouterCase:
    """A closed loop: each of `streams` connections sends its next request when its last one is answered.

    Attributes:
        answers: requests of each stream.
        step_ms: how long a step of the shard takes; at 0 the router has nothing to wait for.
    """

    name: str
    streams: int
    answers: int
    output_tokens: int
    step_ms: float


CASES = (
    RouterCase("256 streams, steps of 0 ms", streams=256, answers=2, output_tokens=400, step_ms=0.0),
    RouterCase("32 streams, steps of 0 ms", streams=32, answers=8, output_tokens=400, step_ms=0.0),
    RouterCase("32 streams, steps of 20 ms", streams=32, answers=1, output_tokens=200, step_ms=20.0),
)


@dataclass(frozen=True, slots=True)
class RouterRun:
    """The figures of one run.

    Attributes:
        added_p50_ms: from the shard's answer of a step to the client's receipt of a token in it; so are the
            other two, of which the last is the longest.
        cpu_us: processor time that the router spent for each token, the kernel's included.
        kernel_us: the kernel's part of it.
        disturbance: how much of its processor's time went to other processes, from 0 to 1.
        attempt: which attempt this is; the ones before were more disturbed, and are not kept.
    """

    case: str
    route: str
    round: int
    tokens: int
    tokens_per_s: float
    added_p50_ms: float
    added_p99_ms: float
    added_max_ms: float
    cpu_us: float
    kernel_us: float
    disturbance: float
    attempt: int


@dataclass(frozen=True, slots=True)
class RouterRecord:
    """A measurement of the router, and under which conditions it was made.

    Attributes:
        name: what it is kept under, after the date.
        date: day and time of its start, UTC, in ISO 8601.
        load_before: runnable processes in the minute before, as the system averages them.
    """

    name: str
    date: str
    load_before: float
    machine: Machine
    revision: Revision | None
    versions: Mapping[str, str]
    cases: tuple[RouterCase, ...]
    runs: tuple[RouterRun, ...]
