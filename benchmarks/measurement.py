"""What a run recorded, and the figures made from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Answer:
    """One request, seen from the client; times in seconds on one monotonic clock.

    Attributes:
        sent: when the request was sent; not kept with an error.
        arrivals: when each piece of the answer came: one token each, as a rule.
        prompt_tokens: as the server counts them.
        output_tokens: as the server counts them; several may come in one piece, or none with a piece.
        error: why the answer does not count; empty if it does.
    """

    sent: float = 0.0
    arrivals: tuple[float, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """All answers of one run and how long it took, in seconds."""

    answers: tuple[Answer, ...]
    wall_s: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one run. Times in milliseconds, NaN where nothing was answered.

    `output_tokens_per_s` is over the whole run, prefill included; `ttft` is the time from sending a request
    to the first piece of its answer; `itl` is the time between two pieces of an answer.
    """

    requests: int
    errors: int
    first_error: str
    prompt_tokens: int
    output_tokens: int
    wall_s: float
    output_tokens_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p50_ms: float
    itl_p99_ms: float


def measure(record: RunRecord) -> Measurement:
    """Make the figures of a run; failed requests count only as errors."""
    answered = [answer for answer in record.answers if not answer.error]
    errors = [answer.error for answer in record.answers if answer.error]
    first = sorted(1e3 * (answer.arrivals[0] - answer.sent) for answer in answered if answer.arrivals)
    between = sorted(
        1e3 * (later - earlier) for answer in answered for earlier, later in pairwise(answer.arrivals)
    )
    output_tokens = sum(answer.output_tokens for answer in answered)
    return Measurement(
        requests=len(record.answers),
        errors=len(errors),
        first_error=errors[0] if errors else "",
        prompt_tokens=sum(answer.prompt_tokens for answer in answered),
        output_tokens=output_tokens,
        wall_s=record.wall_s,
        output_tokens_per_s=output_tokens / record.wall_s,
        ttft_p50_ms=percentile(first, 50),
        ttft_p99_ms=percentile(first, 99),
        itl_p50_ms=percentile(between, 50),
        itl_p99_ms=percentile(between, 99),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Answer the smallest value that `percent` % of all do not exceed (nearest rank); NaN of nothing."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
