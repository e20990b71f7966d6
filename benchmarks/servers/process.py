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
) -> AsyncIterator[None]:
    """Run a server until the block ends; the block begins when `is_ready` says so.

    Raises:
        ServerFailedError: the process could not be started, ended early or took too long; the message has the
            end of its log.
    """
    process = start(command, environment, log)
    try:
        await _until_ready(process, is_ready, log)
        yield
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
    family = _family(process)
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


def _family(process: psutil.Popen) -> list[psutil.Process]:
    try:
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


def end_of_log(log: Path) -> str:
    """Answer the last lines of a log, indented, to be shown below an error."""
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join(f"    {line}" for line in lines)
