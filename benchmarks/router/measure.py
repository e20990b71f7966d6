"""Runs the router over a stub shard: the router alone on one processor, shard and clients on another."""

import asyncio
import contextlib
import os
import random
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.machine import describe_machine, describe_revision, package_versions
from benchmarks.measurement import percentile
from benchmarks.router.load import ROUTES, Route, run_load
from benchmarks.router.record import RouterCase, RouterRecord, RouterRun
from benchmarks.servers.http import free_port
from benchmarks.servers.process import server_process
from benchmarks.vocabulary import WORDS
from tgi_demo import MODEL_PATH

ROUTER_CPU = 0
OTHER_CPU = 1

_PACKAGES = ("aiohttp", "grpcio", "msgspec", "protobuf", "uvloop")
_PROMPT_WORDS = 20
_WARM_UP_TOKENS = 50
_MAX_CONCURRENT_REQUESTS = 1024
# A run during which others took more of the router's processor is tried again, so many times in all.
_MOST_DISTURBANCE = 0.02
_ATTEMPTS = 8


def record_router(cases: Sequence[RouterCase], rounds: int, name: str) -> RouterRecord:
    """Measure every case on every route, so many times over; a line is printed for each.

    Raises:
        ServerFailedError: the stub shard or the router does not start.
        LoadError: a request was not answered as it should have been.
    """
    date = datetime.now(UTC).isoformat(timespec="seconds")
    load_before = os.getloadavg()[0]
    machine = describe_machine()
    revision = describe_revision(Path(__file__).parent)
    os.sched_setaffinity(0, {OTHER_CPU})
    runs: list[RouterRun] = []
    for step_ms in dict.fromkeys(case.step_ms for case in cases):
        alike = [case for case in cases if case.step_ms == step_ms]
        runs += asyncio.run(_measure_on(step_ms, alike, rounds))
    return RouterRecord(
        name=name,
        date=date,
        load_before=load_before,
        machine=machine,
        revision=revision,
        versions=package_versions(_PACKAGES),
        cases=tuple(cases),
        runs=tuple(runs),
    )


async def _measure_on(step_ms: float, cases: Sequence[RouterCase], rounds: int) -> list[RouterRun]:
    """Measure cases whose steps take the same time, all on one router."""
    async with _router(step_ms) as (router, port):
        return [
            _measure_undisturbed(router, port, case, route, number)
            for number in range(1, rounds + 1)
            for case in cases
            for route in ROUTES
        ]


def _measure_undisturbed(
    router: psutil.Process, port: int, case: RouterCase, route: Route, number: int
) -> RouterRun:
    """Measure until the router had its processor to itself; answers the least disturbed run."""
    runs: list[RouterRun] = []
    for attempt in range(1, _ATTEMPTS + 1):
        runs.append(_measure(router, port, case, route, number, attempt))
        print(_line(runs[-1]), flush=True)
        if runs[-1].disturbance <= _MOST_DISTURBANCE:
            break
    return min(runs, key=lambda run: run.disturbance)


@contextlib.asynccontextmanager
async def _router(step_ms: float) -> AsyncIterator[tuple[psutil.Process, int]]:
    """A router over a stub shard, each on its own processor; answers its process and its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        uds_path = scratch / "stub"
        stub = _pinned(OTHER_CPU, "benchmarks.stub_shard", f"--uds-path={uds_path}", f"--step-ms={step_ms}")
        router = _pinned(
            ROUTER_CPU,
            "tgi_router.cli",
            f"--master-shard-uds-path={uds_path}",
            f"--tokenizer-name={MODEL_PATH}",
            "--hostname=127.0.0.1",
            f"--port={port}",
            f"--max-concurrent-requests={_MAX_CONCURRENT_REQUESTS}",
        )

        async def stub_listens() -> bool:
            return uds_path.exists()

        async def router_listens() -> bool:
            # The port is opened last, when all else is ready.
            with contextlib.closing(socket.socket()) as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        async with (
            server_process(stub, {}, scratch / "stub.log", stub_listens),
            server_process(router, {}, scratch / "router.log", router_listens) as process_id,
        ):
            yield psutil.Process(process_id), port


def _pinned(cpu: int, module: str, *options: str) -> list[str]:
    return ["taskset", "-c", str(cpu), sys.executable, "-m", module, *options]


def _measure(
    router: psutil.Process, port: int, case: RouterCase, route: Route, number: int, attempt: int
) -> RouterRun:
    source = random.Random(f"{case.name} {route.path} {number} {attempt}")
    warm_up = _requests(source, route, case.streams, _WARM_UP_TOKENS)
    run_load(port, case.streams, warm_up, _WARM_UP_TOKENS)
    requests = list(_requests(source, route, case.streams * case.answers, case.output_tokens))
    before, idle_before = router.cpu_times(), _idle_seconds()
    load = run_load(port, case.streams, requests, case.output_tokens)
    after, idle_after = router.cpu_times(), _idle_seconds()
    delays_us = sorted(load.delays_us)
    tokens = len(delays_us)
    user, kernel = after.user - before.user, after.system - before.system
    others = load.wall_s - (idle_after - idle_before) - user - kernel
    return RouterRun(
        case=case.name,
        route=route.path,
        round=number,
        tokens=tokens,
        tokens_per_s=tokens / load.wall_s,
        added_p50_ms=percentile(delays_us, 50) / 1e3,
        added_p99_ms=percentile(delays_us, 99) / 1e3,
        added_max_ms=delays_us[-1] / 1e3,
        cpu_us=1e6 * (user + kernel) / tokens,
        kernel_us=1e6 * kernel / tokens,
        # The kernel counts all three in ticks, which need not add up.
        disturbance=max(0.0, others / load.wall_s),
        attempt=attempt,
    )


def _idle_seconds() -> float:
    """How long the router's processor has been idle since the machine's start."""
    times = psutil.cpu_times(percpu=True)[ROUTER_CPU]
    return float(times.idle + times.iowait)


def _requests(source: random.Random, route: Route, count: int, output_tokens: int) -> Iterator[bytes]:
    for _ in range(count):
        yield route.write_request(" ".join(source.choices(WORDS, k=_PROMPT_WORDS)), output_tokens)


def _line(run: RouterRun) -> str:
    return (
        f"{run.case:<28}{run.route:<22}{run.tokens_per_s:9,.0f} tok/s   "
        f"added p50 {run.added_p50_ms:5.2f} p99 {run.added_p99_ms:5.2f} max {run.added_max_ms:5.1f} ms   "
        f"CPU {run.cpu_us:4.1f} us/token, kernel {run.kernel_us:3.1f}   others {100 * run.disturbance:.0f} %"
    )
