"""Servers that speak OpenAI's /v1/completions: those that a command starts, and those that run already."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from benchmarks.cases import Work
from benchmarks.load import Target, run_load
from benchmarks.measurement import RunRecord
from benchmarks.servers.base import Launch, ServerFailedError
from benchmarks.servers.process import server_process


@dataclass(frozen=True, slots=True)
class StartedHttpServer:
    """A server that answers at an address.

    Attributes:
        process_id: of the process that started all its others; None if it ran before.
        kv_tokens: as in `CommandServer`.
    """

    target: Target
    process_id: int | None = None
    kv_tokens: Callable[[str], int] | None = None

    async def run(self, work: Work, on_answer: Callable[[], None]) -> RunRecord:
        """Send the work as a closed loop of streaming clients."""
        return await run_load(self.target, work, on_answer)

    async def kv_cache_tokens(self) -> int | None:
        """Look it up among the server's metrics, if it has any that tell."""
        if self.kv_tokens is None:
            return None
        async with aiohttp.ClientSession() as session, session.get(f"{self.target.url}/metrics") as response:
            return self.kv_tokens(await response.text())


@dataclass(frozen=True, slots=True)
class CommandServer:
    """A server that a command starts: all there is to say about such a peer.

    Attributes:
        name: its name in options and tables.
        versions: of its parts, by distribution; recorded.
        command: the command line that serves a checkpoint on a port of 127.0.0.1.
        options: what is added to that command line.
        environment: variables set for it beside the benchmark's own.
        model: name that its clients call the model by.
        health_path: route that answers 200 once it is ready.
        kv_tokens: reads off the page of its /metrics how many tokens the KV blocks in use hold; None if that
            is not to be found there.
    """

    name: str
    versions: Mapping[str, str]
    command: Callable[[Launch, int], list[str]]
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    model: str = "tgi"
    health_path: str = "/health"
    kv_tokens: Callable[[str], int] | None = None

    @contextlib.asynccontextmanager
    async def started(self, launch: Launch) -> AsyncIterator[StartedHttpServer]:
        """Start it on a free port, wait until its health route answers, stop it at the end."""
        port = free_port()
        target = Target(f"http://127.0.0.1:{port}", self.model)
        command = [*self.command(launch, port), *self.options]
        async with server_process(
            command, self.environment, launch.log, lambda: _answers(target.url + self.health_path)
        ) as process_id:
            yield StartedHttpServer(target, process_id, self.kv_tokens)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that somebody else has started and will stop."""

    target: Target
    name: str = "running"
    versions: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def started(self, launch: Launch) -> AsyncIterator[StartedHttpServer]:
        """See that it answers at all.

        Raises:
            ServerFailedError: nobody listens there.
        """
        if not await _answers(f"{self.target.url}/v1/models"):
            raise ServerFailedError(f"nothing answers at {self.target.url}/v1/models")
        yield StartedHttpServer(self.target)


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(url: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(url) as response,
        ):
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
