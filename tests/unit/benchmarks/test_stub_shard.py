"""The shard without a model, as this project's router drives it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.stub_shard import serve
from support.generations import end_of, make_request, read_all, token_ids
from support.waiting import eventually
from tgi_router.batching.batcher import Batcher
from tgi_router.client.group import ShardGroup
from tgi_router.client.warmup import WantedLimits, warm_up
from tgi_router.generation import FinishReason, PrefillEvent
from tgi_router.telemetry.metrics import Metrics


@contextlib.asynccontextmanager
async def batching(uds_path: Path, step_seconds: float = 0.0) -> AsyncIterator[Batcher]:
    """A batcher over a stub shard."""
    serving = asyncio.create_task(serve(uds_path, step_seconds))
    await asyncio.to_thread(eventually, uds_path.exists, "the stub shard listens", 10)
    group = await ShardGroup.connect(uds_path)
    batcher = Batcher(
        group, await warm_up(group, WantedLimits()), Metrics(max_input_tokens=100, max_total_tokens=200)
    )
    batcher.start()
    yield batcher
    await batcher.close()
    await group.close()
    serving.cancel()
    await asyncio.wait({serving})


@pytest.mark.parametrize("prompt_length", [1, 5000])
async def test_requests_are_answered_until_their_limit(tmp_path: Path, prompt_length: int) -> None:
    async with batching(tmp_path / "stub") as batcher:
        prompts = [[number] * prompt_length for number in range(3)]
        entries = [
            batcher.submit(make_request(prompt, length), arrived_at=0.0)
            for prompt, length in zip(prompts, (1, 5, 9), strict=True)
        ]
        answers = await asyncio.gather(*(read_all(entry.stream) for entry in entries))
    assert [len(token_ids(events)) for events in answers] == [1, 5, 9]
    assert {end_of(events).finish_reason for events in answers} == {FinishReason.LENGTH}


async def test_a_request_that_is_given_up_does_not_stop_the_others(tmp_path: Path) -> None:
    async with batching(tmp_path / "stub") as batcher:
        leaving = batcher.submit(make_request([1], 100_000), arrived_at=0.0)
        staying = batcher.submit(make_request([2], 50), arrived_at=0.0)
        await leaving.stream.take()
        batcher.cancel(leaving)
        assert len(token_ids(await read_all(staying.stream))) == 50


async def test_a_tokens_text_says_when_its_step_was_answered(tmp_path: Path) -> None:
    begun_us = time.monotonic_ns() // 1000
    async with batching(tmp_path / "stub", step_seconds=0.001) as batcher:
        events = await read_all(batcher.submit(make_request([1], 3), arrived_at=0.0).stream)
    stamps = [int(event.token.text) for event in events if not isinstance(event, PrefillEvent)]
    assert begun_us < stamps[0] < stamps[1] < stamps[2] <= time.monotonic_ns() // 1000
