"""One child process: start it, forward its log, wait for it, stop it, and leave nothing of it behind."""

import asyncio
import contextlib
import os
import signal
from typing import Protocol

from tgi_launcher.output import forward_lines
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


class Child:
    """A started process, in a process group of its own: a terminal's Ctrl-C reaches only the launcher."""

    def __init__(self, plan: ProcessPlan, process: asyncio.subprocess.Process, output: ChildOutput) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.plan = plan
        self._process = process
        self._output = output
        self._pumps = [
            asyncio.create_task(forward_lines(process.stdout, output.on_output)),
            asyncio.create_task(forward_lines(process.stderr, output.on_error)),
        ]
        self.exited = asyncio.create_task(self._wait())
        """Done once the process has ended and all it wrote has been forwarded."""

    @classmethod
    async def start(cls, plan: ProcessPlan, output: ChildOutput) -> "Child":
        """Start the process.

        Raises:
            StartError: the system refuses.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *plan.arguments,
                env=plan.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(f"the {plan.name} cannot be started: {error}") from None
        return cls(plan, process, output)

    @property
    def succeeded(self) -> bool:
        """Whether it has ended with exit code 0."""
        return self._process.returncode == 0

    def describe_end(self) -> str:
        """How it ended, in one line: exit code or signal, and the last error it logged."""
        code = self._process.returncode
        assert code is not None
        how = f"exited with code {code}" if code >= 0 else f"was killed by {_signal_name(-code)}"
        cause = f": {self._output.last_error}" if self._output.last_error else ""
        return f"{self.plan.name} {how}{cause}"

    def terminate(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Kill it and whatever it started, unless it has ended (its id may be another's then)."""
        if self._process.returncode is None:
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _wait(self) -> None:
        await self._process.wait()
        self._kill_group()
        _, late = await asyncio.wait(self._pumps, timeout=_DRAIN_SECONDS)
        for pump in late:
            pump.cancel()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
