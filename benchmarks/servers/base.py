"""What a server under measurement is to the benchmark."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.cases import Work
from benchmarks.measurement import RunRecord


class ServerFailedError(Exception):
    """A server did not start, or ended while it was needed."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What every server is started with.

    Attributes:
        checkpoint: folder of the model, in the Hub's layout.
        dtype: number format of weights and activations, in torch's words.
        scratch: a folder for sockets and logs, this server's alone, removed afterwards.
    """

    checkpoint: Path
    dtype: str
    scratch: Path

    @property
    def log(self) -> Path:
        """Where what the server prints is kept."""
        return self.scratch / "log"


class StartedServer(Protocol):
    """A server that is ready."""

    @property
    def process_id(self) -> int | None:
        """The process that all its others descend from; None if somebody else has started it."""
        ...

    async def run(self, work: Work, on_answer: Callable[[], None]) -> RunRecord:
        """Have the work done and record it; `on_answer` is called once a request."""
        ...

    async def kv_cache_tokens(self) -> int | None:
        """Answer how many tokens' keys and values its KV blocks have room for that hold something.

        None if it does not tell.
        """
        ...


class Server(Protocol):
    """Something that can be measured: this server or a peer."""

    @property
    def name(self) -> str:
        """Its name in options and tables."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of its parts, by distribution."""
        ...

    @property
    def options(self) -> tuple[str, ...]:
        """The options beyond its defaults that it is started with."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that are set for it."""
        ...

    def started(self, launch: Launch) -> AbstractAsyncContextManager[StartedServer]:
        """Start it, wait until it is ready, and stop it at the end, whatever happened.

        Raises:
            ServerFailedError: it did not become ready.
        """
        ...
