"""The life of a server's process: started, watched until it is ready, stopped with all its children."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, TimeoutExpired

import psutil

from benchmarks.servers.base import ServerFailedError

START_SECONDS = 600.0
"""How long a server may take to become ready: some peers compile for minutes at their first start."""

_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.1
_LOG_LINES = 15


@contextlib.asynccontextmanager
async def server_process(
    command: Sequence[str], environment: Mapping[str, str], log: Path, is_ready: Callable[[], Awaitable[bool]]
) -> AsyncIterator[int]:
    """Run a server until the block ends; the block begins, with its process id, when `is_ready` says so.

    Raises:
        ServerFailedError: the process could not be started, ended early or took too long; the message has the
            end of its log.
    """
    process = start(command, environment, log)
    try:
        await _until_ready(process, is_ready, log)
        yield process.pid
    finally:
        stop(process)


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    stdin: int = DEVNULL,
    stdout: int | None = None,
) -> psutil.Popen:
    """Start a process whose output, or errors if `stdout` is a pipe, go to `log`.

    Raises:
        ServerFailedError: there is no such command, or it may not be run.
    """
    with log.open("wb") as errors:
        try:
            # Its own session, so that a Ctrl-C meant for the benchmark reaches the server as an orderly stop.
            return psutil.Popen(
                command,
                stdin=stdin,
                stdout=errors if stdout is None else stdout,
                stderr=errors,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except OSError as error:
            raise ServerFailedError(f"{command[0]} cannot be started: {error.strerror}") from error


async def _until_ready(process: psutil.Popen, is_ready: Callable[[], Awaitable[bool]], log: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await is_ready():
                if process.poll() is not None:
                    raise ServerFailedError(f"ended with status {process.returncode}\n{end_of_log(log)}")
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise ServerFailedError(f"not ready within {START_SECONDS:.0f} s\n{end_of_log(log)}") from error


def stop(process: psutil.Popen) -> None:
    """Ask the process to end, then end whatever is left of it and its children.

    Blocks for at most half a minute; nothing else is going on when a server is stopped, and a second Ctrl-C
    then cuts the wait short without leaving anything behind.
    """
    family = family_of(process.pid)
    try:
        process.send_signal(signal.SIGTERM)
        process.wait(_STOP_SECONDS)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired, TimeoutExpired):
        pass
    finally:
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=_STOP_SECONDS)


def family_of(process_id: int) -> list[psutil.Process]:
    """Find a process that `start` started, its descendants, and those whose parent has ended before them."""
    members: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(process_id)
        members = {each.pid: each for each in (*process.children(recursive=True), process)}
    for other in psutil.pids():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            # It leads a session of its own, which orphans stay in.
            if other not in members and os.getsid(other) == process_id:
                members[other] = psutil.Process(other)
    return list(members.values())


def end_of_log(log: Path, lines: int = _LOG_LINES) -> str:
    """Answer the last lines of a log, indented, to be shown below a message; nothing if there is none yet."""
    if not log.exists():
        return ""
    found = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in found)
