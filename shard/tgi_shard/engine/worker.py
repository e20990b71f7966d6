"""The one thread that owns the model: commands run on it first in, first out, off the event loop."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")

# Calls of one router arrive one or a few at a time; a longer line means a peer gone wrong.
MAX_WAITING_COMMANDS = 128


class WorkerBusyError(RuntimeError):
    """Too many commands wait for the engine."""


class EngineThread:
    """Runs callables one after the other on a thread of its own.

    First in, first out is part of the contract: every rank receives the same calls in the same order and so
    runs the same collectives in the same order.
    """

    def __init__(self) -> None:
        self._commands: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING_COMMANDS)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, command: Callable[[], Result]) -> "Future[Result]":
        """Queue a command; its result or exception arrives in the future.

        Raises:
            WorkerBusyError: the queue is full.
        """
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = command()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        try:
            self._commands.put_nowait(run)
        except queue.Full:
            raise WorkerBusyError(
                f"{MAX_WAITING_COMMANDS} calls are already waiting for the engine"
            ) from None
        return future

    @property
    def alive(self) -> bool:
        """Whether the thread still takes commands."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> bool:
        """Let queued commands finish, for `timeout` seconds at most; answers whether they did."""
        self._commands.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (command := self._commands.get()) is not None:
            command()
