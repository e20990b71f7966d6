"""A fixture that starts batchers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.batcher_bench import Bench, StartBench
from support.fake_engine import PAGED, FakeEngine, FakeShardKind
from support.generations import make_limits
from support.memory_shards import MemoryShards
from tgi_router.batching.batcher import Batcher
from tgi_router.batching.room import JoinPolicy
from tgi_router.telemetry.metrics import Metrics


@pytest.fixture
async def start() -> AsyncIterator[StartBench]:
    """Builds and starts a batcher: `await start(kind, policy=..., max_batch_prefill_tokens=..., ...)`."""
    async with AsyncExitStack() as stack:

        async def build(
            kind: FakeShardKind = PAGED, *, policy: JoinPolicy | None = None, **limits: Any
        ) -> Bench:
            engine = FakeEngine(kind)
            shards = MemoryShards(engine)
            metrics = Metrics(max_input_tokens=100, max_total_tokens=100)
            batcher = Batcher(shards, make_limits(engine, **limits), metrics, policy)
            batcher.start()
            stack.push_async_callback(batcher.close)
            return Bench(batcher, engine, shards, metrics)

        yield build
