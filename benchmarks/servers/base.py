"""What a server under measurement is to the benchmark."""

from collections.abc import Callable
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


class StartedServer(Protocol):
    """A server that is ready."""

    async def run(self, work: Work, on_answer: Callable[[], None]) -> RunRecord:
        """Have the work done and record it; `on_answer` is called once a request."""
        ...


class Server(Protocol):
    """Something that can be measured: this server or a peer."""

    @property
    def name(self) -> str:
        """Its name in options and tables."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """The distributions whose versions belong into the record of a run."""
        ...

    @property
    def options(self) -> tuple[str, ...]:
        """The options beyond its defaults that it is started with."""
        ...

    def started(self, launch: Launch) -> AbstractAsyncContextManager[StartedServer]:
        """Start it, wait until it is ready, and stop it at the end, whatever happened.

        Raises:
            ServerFailedError: it did not become ready.
        """
        ...
