"""One child process: start it, forward its log, wait for it, stop it, and leave nothing of it behind."""

import asyncio
import contextlib
import os
import signal
from typing import Protocol

from tgi_launcher.output import LineSplitter
from tgi_launcher.plan import ProcessPlan

_DRAIN_SECONDS = 1.0
"""How long the last lines of a dead child are waited for: a process that it left may hold its pipes open."""


class ChildOutput(Protocol):
    """Where a child's lines go."""

    last_error: str | None

    def on_output(self, line: str) -> None:
        """Take a line of standard output."""

    def on_error(self, line: str) -> None:
        """Take a line of standard error."""


class StartError(Exception):
    """A process cannot be started."""


class _Events(asyncio.SubprocessProtocol):
    """What the event loop reports of a process.

    The streams of `asyncio.create_subprocess_exec` will not do: there a process has not ended before its
    pipes are closed, which one that it started can hold open.
    """

    def __init__(self, output: ChildOutput) -> None:
        self._lines = {1: LineSplitter(output.on_output), 2: LineSplitter(output.on_error)}
        self.ended = asyncio.Event()
        self.drained = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._lines[fd].feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd in self._lines:
            self._lines[fd].finish()

    def process_exited(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.drained.set()


class Child:
    """A started process, in a process group of its own: a terminal's Ctrl-C reaches only the launcher."""

    def __init__(
        self,
        plan: ProcessPlan,
        output: ChildOutput,
        transport: asyncio.SubprocessTransport,
        events: _Events,
    ) -> None:
        self._plan = plan
        self._output = output
        self._transport = transport
        self._events = events
        self.exited = asyncio.create_task(self._wait())
        """Done once the process has ended and all it wrote has been forwarded."""

    @classmethod
    async def start(cls, plan: ProcessPlan, output: ChildOutput) -> "Child":
        """Start the process.

        Raises:
            StartError: the system refuses.
        """
        try:
            transport, events = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Events(output),
                *plan.arguments,
                env=plan.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(f"the {plan.name} cannot be started: {error}") from None
        return cls(plan, output, transport, events)

    @property
    def succeeded(self) -> bool:
        """Whether it has ended with exit code 0."""
        return self._transport.get_returncode() == 0

    def describe_end(self) -> str:
        """How it ended, in one line: exit code or signal, and the last error it logged."""
        code = self._transport.get_returncode()
        assert code is not None
        how = f"exited with code {code}" if code >= 0 else f"was killed by {_signal_name(-code)}"
        cause = f": {self._output.last_error}" if self._output.last_error else ""
        return f"{self._plan.name} {how}{cause}"

    def terminate(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(ProcessLookupError):
            self._transport.terminate()

    def kill(self) -> None:
        """Kill it and whatever it started, unless it has ended (its id may be another's then)."""
        if self._transport.get_returncode() is None:
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), signal.SIGKILL)

    async def _wait(self) -> None:
        await self._events.ended.wait()
        self._kill_group()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._events.drained.wait()
        self._transport.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
