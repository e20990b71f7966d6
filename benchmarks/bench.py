"""A whole benchmark: the rounds, and everything about them that belongs into the record."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import describe_machine, describe_revision, relevant_variables
from benchmarks.memory import weight_bytes
from benchmarks.record import Record, ServerSettings
from benchmarks.rounds import Plan, ServerRound, run_rounds


def record_benchmark(plan: Plan, model: str, name: str) -> Record:
    """Measure, and answer the record; servers are stopped also when the run is interrupted.

    Raises:
        ServerFailedError: a server does not start.
        SystemExit: the run was interrupted.
    """
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    # Before the rounds, which may outlast a change to the tree.
    revision = describe_revision(Path(__file__).parent)
    _warn_if_busy(os.getloadavg()[0], len(os.sched_getaffinity(0)))
    try:
        rounds = asyncio.run(_interruptible(plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("interrupted: the servers are stopped, nothing is recorded")
    return Record(
        name=name,
        date=begun,
        model=model,
        dtype=plan.dtype,
        seed=plan.seed,
        weight_bytes=weight_bytes(plan.checkpoint, plan.dtype),
        machine=describe_machine(),
        revision=revision,
        environment=relevant_variables(os.environ),
        servers={
            server.name: ServerSettings(
                server.options, server.versions, relevant_variables(server.environment)
            )
            for server in plan.servers
        },
        cases=plan.cases,
        rounds=tuple(rounds),
    )


def _warn_if_busy(load: float, cpus: int) -> None:
    """Threads that wait for each other become many times slower when something else takes their processor."""
    if load > cpus / 4:
        print(
            f"warning: the load average is {load:.1f} on {cpus} CPUs: something else is running, and figures "
            "of a busy machine mean little",
            file=sys.stderr,
        )


async def _interruptible(plan: Plan) -> list[ServerRound]:
    """Let SIGTERM end the run the way Ctrl-C does: by cancelling it, which stops the server under way."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run_rounds(plan)
