"""Runs the servers in turn, round after round: what else the machine does falls on all of them alike."""

import asyncio
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from tqdm.auto import tqdm

from benchmarks.cases import Case, Work
from benchmarks.measurement import Measurement, measure
from benchmarks.memory import ServerMemory, kv_bytes_per_token, read_processes
from benchmarks.prompts import PromptMaker
from benchmarks.servers.base import Launch, Server, ServerFailedError, StartedServer
from benchmarks.servers.process import end_of_log, family_of

_TELL_SECONDS = 15.0
"""How often it is told that a server is still starting."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, with what, how often."""

    servers: tuple[Server, ...]
    cases: tuple[Case, ...]
    rounds: int
    checkpoint: Path
    dtype: str
    seed: int


@dataclass(frozen=True, slots=True)
class ServerRound:
    """One life of a server: from its start through all cases.

    Attributes:
        server: its name.
        round: counted from 1.
        ready_s: seconds from its start until it was ready.
        load_before: runnable processes in the last minute, as the system averages them: what else went on.
        measurements: by the case's name.
        memory: what its processes held after each case; empty for a server that somebody else has started.
    """

    server: str
    round: int
    ready_s: float
    load_before: float
    measurements: dict[str, Measurement]
    memory: dict[str, ServerMemory]


@dataclass(frozen=True, slots=True)
class _Task:
    """A case with its requests; the first one alone warms the server up."""

    name: str
    warmup: Work
    work: Work


async def run_rounds(plan: Plan) -> list[ServerRound]:
    """Measure all of it, with a progress bar and a line a case.

    Raises:
        ServerFailedError: a server does not start; the message names it.
    """
    prompts = PromptMaker(plan.checkpoint, plan.seed)
    results: list[ServerRound] = []
    total = plan.rounds * len(plan.servers) * sum(case.requests for case in plan.cases)
    # On a terminal only (`disable=None`): elsewhere the lines for each case tell how far it is.
    with tqdm(total=total, unit=" requests", dynamic_ncols=True, disable=None) as bar:
        for number in range(1, plan.rounds + 1):
            tasks = [_Task(c.name, prompts.warmup(c, number), prompts.work(c, number)) for c in plan.cases]
            # Every other round runs backwards: a machine that slows down steadily favours nobody.
            order = plan.servers if number % 2 else plan.servers[::-1]
            results += [await _run_server(plan, server, number, tasks, bar) for server in order]
    return results


async def _run_server(
    plan: Plan, server: Server, number: int, tasks: Sequence[_Task], bar: "tqdm[Never]"
) -> ServerRound:
    load_before = os.getloadavg()[0]
    measurements, memory = {}, {}
    label = f"round {number}/{plan.rounds} {server.name}"
    bar.set_description(f"{label}: starting")
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        launch = Launch(plan.checkpoint, plan.dtype, Path(scratch))
        started_at = time.perf_counter()
        try:
            async with contextlib.AsyncExitStack() as stack:
                with _telling(label, launch.log):
                    started = await stack.enter_async_context(server.started(launch))
                ready_s = time.perf_counter() - started_at
                for task in tasks:
                    bar.set_description(f"{label}: {task.name}")
                    await started.run(task.warmup, lambda: None)
                    measurements[task.name] = measure(await started.run(task.work, lambda: _advance(bar)))
                    tqdm.write(_line(label, task.name, measurements[task.name]))
                    if started.process_id is not None:
                        memory[task.name] = await _read_memory(plan, started, started.process_id)
        except ServerFailedError as error:
            raise ServerFailedError(f"{server.name}: {error}") from error
    return ServerRound(server.name, number, ready_s, load_before, measurements, memory)


@contextlib.contextmanager
def _telling(label: str, log: Path) -> Iterator[None]:
    """Tell every now and then what a server that takes long to start is at, by the last line of its log."""

    async def tell() -> None:
        for times in itertools.count(1):
            await asyncio.sleep(_TELL_SECONDS)
            seconds = times * _TELL_SECONDS
            tqdm.write(f"{label}: starting for {seconds:.0f} s\n{end_of_log(log, lines=1)}")

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()


async def _read_memory(plan: Plan, started: StartedServer, process_id: int) -> ServerMemory:
    tokens = await started.kv_cache_tokens()
    kv_cache = None if tokens is None else tokens * kv_bytes_per_token(plan.checkpoint, plan.dtype)
    return ServerMemory(read_processes(family_of(process_id)), kv_cache)


def _advance(bar: "tqdm[Never]") -> None:
    bar.update()


def _line(label: str, case: str, figures: Measurement) -> str:
    errors = f", {figures.errors} ERRORS: {figures.first_error}" if figures.errors else ""
    return (
        f"{label:<24}{case:<18}{figures.output_tokens_per_s:8.1f} tok/s   "
        f"ITL {figures.itl_p50_ms:7.1f} ms   TTFT {figures.ttft_p50_ms:8.1f} ms{errors}"
    )


def count_errors(rounds: Sequence[ServerRound]) -> int:
    """Count the requests that failed, in all rounds together."""
    return sum(figures.errors for result in rounds for figures in result.measurements.values())
