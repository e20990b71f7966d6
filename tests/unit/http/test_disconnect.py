"""A client that goes away stops its generation, in whatever phase it is."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.http_bench import HttpBench, events
from tgi_router.generation import TokenEvent

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": ("/generate", {"inputs": "hi"}),
    "best_of": ("/generate", {"inputs": "hi", "parameters": {"best_of": 2, "do_sample": True}}),
    "stream": ("/generate_stream", {"inputs": "hi"}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "stream": True}),
    "completion": ("/v1/completions", {"prompt": "hi"}),
    "completions": ("/v1/completions", {"prompt": ["a", "b"], "stream": True}),
}


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


async def send(bench: HttpBench, path: str, body: dict[str, Any]) -> "asyncio.Task[Any]":
    """Ask, in a task whose cancelling hangs up, and wait until the request is queued."""
    seen = len(bench.batcher.entries)

    async def ask() -> None:
        reply = await bench.post(path, body)
        await reply.read()

    task = asyncio.create_task(ask())
    await until(lambda: len(bench.batcher.entries) > seen)
    return task


async def hang_up(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize("name", REQUESTS)
async def test_before_the_first_token(start: Any, name: str) -> None:
    bench = await start()
    await hang_up(await send(bench, *REQUESTS[name]))
    await until(lambda: bench.inference.free_permits == 8)
    assert bench.batcher.cancelled == bench.batcher.entries
    assert bench.sample('tgi_request_failure{err="dropped"}') == 1


@pytest.mark.parametrize("name", ["whole", "stream", "chat", "completions"])
async def test_between_tokens(start: Any, name: str) -> None:
    bench = await start()
    task = await send(bench, *REQUESTS[name])
    [first, *_] = events("a")
    assert isinstance(first, TokenEvent)
    bench.batcher.entries[0].stream.push(first)
    await asyncio.sleep(0)
    await hang_up(task)
    await until(lambda: bench.inference.free_permits == 8)
    assert bench.batcher.cancelled == bench.batcher.entries


async def test_others_are_not_concerned(start: Any) -> None:
    bench = await start()
    leaving = await send(bench, *REQUESTS["stream"])
    staying = await send(bench, *REQUESTS["stream"])
    await hang_up(leaving)
    await until(lambda: bench.inference.free_permits == 7)
    for event in events("a"):
        bench.batcher.entries[1].stream.push(event)
    bench.batcher.entries[1].stream.end()
    await staying
    assert bench.batcher.cancelled == [bench.batcher.entries[0]]


async def test_a_client_that_went_away_before_its_error_is_not_an_error_of_the_server(start: Any) -> None:
    bench = await start()
    await hang_up(await send(bench, *REQUESTS["stream"]))
    await until(lambda: bench.inference.free_permits == 8)
    assert (await bench.client.get("/health")).status == 200
