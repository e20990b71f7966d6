"""The life of one server's processes: download, shards, router, then watching them until the end."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tgi_launcher.plan import ProcessPlan
from tgi_launcher.preflight import remove_sockets
from tgi_launcher.processes import Child, ChildOutput, StartError
from tgi_launcher.readiness import NotReadyError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

FAILURE_SECONDS = 2.5
"""After a failure: time for the router to send open streams their error event."""

STARTING_SECONDS = 5.0
"""After a signal during the start: time for the processes to end by themselves."""

WAITING_LINE_SECONDS = 10.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Group:
    """What to start, in this order, and how to tell that it is ready.

    Attributes:
        download: fetches the model first; None when nothing is to be fetched.
        sockets: of the shards, by rank.
        url: where the router answers once it is ready.
        shard_answers: returns once the shard behind a socket does.
        router_answers: returns once the router does.
        make_output: where a process's log lines go.
        graceful_seconds: how long running requests may take to finish after a signal.
    """

    download: ProcessPlan | None
    shards: Sequence[ProcessPlan]
    router: ProcessPlan
    sockets: Sequence[Path]
    url: str
    shard_answers: Callable[[Path], Awaitable[None]]
    router_answers: Callable[[], Awaitable[None]]
    make_output: Callable[[ProcessPlan], ChildOutput]
    graceful_seconds: float


class _Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A signal asked for the end."""


class _ChildEnded(Exception):  # noqa: N818 - named for what happened
    """A process ended that should not have; the text says which, how and why."""


class Supervisor:
    """Runs a group of processes until a signal comes or one of them ends."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._router: Child | None = None
        self._others: list[Child] = []
        self._ready = False
        self._signalled = asyncio.Event()
        self._signalled_again = asyncio.Event()

    async def run(self) -> int:
        """Live; return the exit code: 0 after a signal, 1 after a failure. Nothing is left running."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            await self._live()
        except _Stopped:
            await self._stop()
        except (_ChildEnded, StartError, NotReadyError) as error:
            await self._give_up()
            # Last of all, so that the user finds it at the bottom.
            _log.error(str(error))
            return 1
        finally:
            self._kill_all()
            remove_sockets(self._group.sockets)
        return 0

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signalled.is_set():
            _log.warning(f"{number.name} again: killing everything")
            self._signalled_again.set()
        else:
            _log.info(f"{number.name}: stopping once the running requests are finished")
            self._signalled.set()

    async def _live(self) -> None:
        if self._group.download is not None:
            await self._fetch(self._group.download)
        shards = [await self._start(plan) for plan in self._group.shards]
        await self._watching(shards, self._shards_answer())
        self._router = await self._start(self._group.router)
        serving = [*shards, self._router]
        await self._watching(serving, self._group.router_answers())
        self._ready = True
        _log.info(f"Ready: {self._group.url}")
        await self._watching(serving, asyncio.Event().wait())

    async def _start(self, plan: ProcessPlan) -> Child:
        _log.debug(f"starting the {plan.name}", command=" ".join(plan.arguments))
        child = await Child.start(plan, self._group.make_output(plan))
        if plan is not self._group.router:
            self._others.append(child)
        return child

    async def _fetch(self, plan: ProcessPlan) -> None:
        download = await self._start(plan)
        await self._watching([], asyncio.wait([download.exited]))
        if not download.succeeded:
            raise _ChildEnded(download.describe_end())

    async def _shards_answer(self) -> None:
        waiting = {
            asyncio.ensure_future(self._group.shard_answers(socket)): plan.name
            for plan, socket in zip(self._group.shards, self._group.sockets, strict=True)
        }
        seconds = 0.0
        try:
            while waiting:
                done, _ = await asyncio.wait(
                    waiting, timeout=WAITING_LINE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for future in done:
                    _log.info(f"{waiting.pop(future)} is ready")
                    future.result()
                if not done:
                    seconds += WAITING_LINE_SECONDS
                    _log.info(f"waiting for {', '.join(waiting.values())} ({seconds:.0f} s)")
        finally:
            for future in waiting:
                future.cancel()

    async def _watching(self, children: Sequence[Child], work: Awaitable[Any]) -> None:
        """Do the work, unless a signal comes or one of the children ends first."""
        task = asyncio.ensure_future(work)
        signalled = asyncio.create_task(self._signalled.wait())
        exits = [child.exited for child in children]
        await asyncio.wait([task, signalled, *exits], return_when=asyncio.FIRST_COMPLETED)
        try:
            if signalled.done():
                raise _Stopped
            if ended := [child for child in children if child.exited.done()]:
                raise _ChildEnded(ended[0].describe_end())
            await task
        finally:
            await _cancel(task)
            await _cancel(signalled)

    async def _stop(self) -> None:
        """The router first: it finishes what it has accepted, and needs the shards for that."""
        # Before it is ready there are no requests to wait for.
        seconds = self._group.graceful_seconds if self._ready else STARTING_SECONDS
        deadline = asyncio.get_running_loop().time() + seconds
        if self._router is not None:
            await self._stop_child(self._router, deadline)
        await asyncio.gather(*(self._stop_child(child, deadline) for child in self._others))

    async def _give_up(self) -> None:
        """Without one of them the shards are of no use; the router has open streams to end."""
        for child in self._others:
            child.kill()
        if self._router is not None:
            await self._stop_child(self._router, asyncio.get_running_loop().time() + FAILURE_SECONDS)
        await asyncio.gather(*(child.exited for child in self._others))

    async def _stop_child(self, child: Child, deadline: float) -> None:
        """Ask it to end; kill it at the deadline, or once a second signal comes."""
        child.terminate()
        again = asyncio.create_task(self._signalled_again.wait())
        left = deadline - asyncio.get_running_loop().time()
        await asyncio.wait([child.exited, again], timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
        await _cancel(again)
        child.kill()
        await child.exited
        _log.debug(child.describe_end())

    def _kill_all(self) -> None:
        for child in (*self._others, *([self._router] if self._router is not None else [])):
            child.kill()


async def _cancel(task: "asyncio.Future[Any]") -> None:
    """Cancel a task, if it still runs, and wait until it has ended."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
