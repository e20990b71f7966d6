"""A fixture that starts the HTTP side on a scripted batcher."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.http_bench import HttpBench, Script, start_bench

StartBench = Callable[..., Awaitable[HttpBench]]


@pytest.fixture
async def start() -> AsyncIterator[StartBench]:
    """Starts a server: `await start(script, max_concurrent_requests=..., ...)`."""
    async with AsyncExitStack() as stack:

        async def build(script: Script | None = None, **options: Any) -> HttpBench:
            bench = await start_bench(script, **options)
            stack.push_async_callback(bench.client.close)
            return bench

        yield build
