"""What following a grammar costs: `python -m benchmarks.grammar_cost URL`, of a server on this machine.

Eight streams at a time, free and held to a JSON schema by turns; and the time to the first token of single
requests, free and with a schema of 50 properties that the server has never seen.
"""

import asyncio
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.cases import Work
from benchmarks.load import Target, run_load
from benchmarks.measurement import RunRecord

ROUNDS = 5
STREAMS = 8
REQUESTS = 48
OUTPUT_TOKENS = 64
PROPERTIES = 50

# Neither ends within the tokens asked for, so that all answers are equally long.
LIST = {"type": "array", "items": {"type": "string", "minLength": 200}, "minItems": 100}


def fifty_properties(number: int) -> dict[str, Any]:
    """A schema that differs from all others by its number."""
    kinds = (
        {"type": "integer"},
        {"type": "string", "minLength": 40},
        {"enum": ["a", "b"]},
        {"type": "boolean"},
    )
    names = [f"field_{number}_{place}" for place in range(PROPERTIES)]
    return {
        "type": "object",
        "properties": {name: kinds[place % len(kinds)] for place, name in enumerate(names)},
        "required": names,
    }


def prompts(count: int, start: int) -> tuple[str, ...]:
    """Prompts that no cache has seen."""
    return tuple(f"{start + place} " + "and then " * 50 for place in range(count))


async def run(url: str, work: Work, extra: dict[str, Any]) -> RunRecord:
    """One run without errors."""
    record = await run_load(Target(url, "tgi", {"ignore_eos": True, **extra}), work, lambda: None)
    for answer in record.answers:
        if answer.error:
            sys.exit(f"a request failed: {answer.error}")
    return record


def rate(record: RunRecord) -> float:
    """Output tokens per second."""
    return sum(answer.output_tokens for answer in record.answers) / record.wall_s


def first_token_ms(record: RunRecord) -> float:
    """Median time to the first token, in milliseconds."""
    return 1e3 * statistics.median(answer.arrivals[0] - answer.sent for answer in record.answers)


async def throughputs(url: str) -> list[tuple[float, float]]:
    """Tokens per second of free and of held streams, round by round."""
    rounds: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        rates = []
        for place, extra in enumerate(({}, {"guided_json": LIST})):
            start = (2 * number + place) * REQUESTS
            record = await run(url, Work(prompts(REQUESTS, start), OUTPUT_TOKENS, STREAMS), extra)
            rates.append(rate(record))
        rounds.append((rates[0], rates[1]))
    return rounds


async def first_tokens(url: str) -> tuple[Sequence[float], Sequence[float]]:
    """Times to the first token of free requests, and of requests with a new schema each, in milliseconds."""
    free: list[float] = []
    held: list[float] = []
    for number in range(4 * ROUNDS):
        for times, extra in ((free, {}), (held, {"guided_json": fifty_properties(number)})):
            start = 10_000 + 2 * number + len(extra)
            times.append(first_token_ms(await run(url, Work(prompts(1, start), 8, 1), extra)))
    return free, held


async def measure(url: str) -> None:
    """Measure and print."""
    await run(url, Work(prompts(STREAMS, 50_000), OUTPUT_TOKENS, STREAMS), {})
    for free, held in await throughputs(url):
        ratio = held / free
        print(f"{STREAMS} streams: {free:.0f} tok/s free, {held:.0f} with a schema, ratio {ratio:.3f}")
    free_times, held_times = await first_tokens(url)
    before, after = statistics.median(free_times), statistics.median(held_times)
    print(f"first token: free {before:.1f} ms, with a schema of {PROPERTIES} properties {after:.1f} ms")


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1]))
