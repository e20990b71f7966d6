"""A batcher on fake shards in memory, with what a test wants to see of both."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from support.fake_engine import FakeEngine
from support.generations import read_all, token_ids
from support.memory_shards import MemoryShards
from tgi_router.batching.batcher import Batcher
from tgi_router.batching.entry import Entry
from tgi_router.generation import ValidRequest
from tgi_router.telemetry.metrics import Metrics


@dataclass
class Bench:
    """A running batcher and what surrounds it."""

    batcher: Batcher
    engine: FakeEngine
    shards: MemoryShards
    metrics: Metrics

    def submit(self, request: ValidRequest) -> Entry:
        return self.batcher.submit(request, arrived_at=0.0)

    async def generate(self, request: ValidRequest) -> list[int]:
        return token_ids(await read_all(self.submit(request).stream))

    async def generate_all(self, requests: Iterable[ValidRequest]) -> list[list[int]]:
        """Submit all, then read all."""
        entries = [self.submit(request) for request in requests]
        return [token_ids(events) for events in await asyncio.gather(*(read_all(e.stream) for e in entries))]

    async def at_rest(self) -> None:
        """Wait until the batcher has nothing left to do."""
        while self.batcher.progress.busy:  # noqa: ASYNC110 - it tells nobody when it is done
            await asyncio.sleep(0)

    def calls(self, *methods: str) -> list[tuple[str, list[int], list[int]]]:
        return [call for call in self.engine.calls if not methods or call[0] in methods]


StartBench = Callable[..., Awaitable[Bench]]
