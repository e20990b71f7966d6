"""The closed loop, against a small stand-in that streams as such servers do."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.cases import Work
from benchmarks.load import RefusedHostError, Target, run_load
from benchmarks.measurement import Answer, RunRecord

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Target]:
    app = web.Application()
    app.router.add_post("/v1/completions", handler)
    async with TestServer(app) as server:
        yield Target(f"http://127.0.0.1:{server.port}", "some-model")


async def load(handler: Handler, prompts: int = 1, output_tokens: int = 3, streams: int = 1) -> RunRecord:
    work = Work(tuple(f"prompt {index}" for index in range(prompts)), output_tokens, streams)
    async with serving(handler) as target:
        return await run_load(target, work, lambda: None)


async def only_answer(handler: Handler) -> Answer:
    (answer,) = (await load(handler)).answers
    return answer


def token(text: str = " a", finish_reason: str | None = None) -> dict[str, Any]:
    return {
        "object": "text_completion",
        "choices": [{"index": 0, "text": text, "finish_reason": finish_reason}],
    }


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def streaming(*events: dict[str, Any] | str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            data = event if isinstance(event, str) else json.dumps(event)
            await response.write(f"data: {data}\n\n".encode())
        return response

    return handle


WHOLE = (token(), token(), token(finish_reason="length"), usage(7, 3), "[DONE]")


async def test_tokens_are_counted_from_usage_and_stamped_as_they_come() -> None:
    answer = await only_answer(streaming(*WHOLE))
    assert answer.error == ""
    assert (answer.prompt_tokens, answer.output_tokens) == (7, 3)
    assert len(answer.arrivals) == 3
    assert answer.sent < answer.arrivals[0] <= answer.arrivals[1] <= answer.arrivals[2]


async def test_a_finish_reason_in_a_chunk_of_its_own_is_no_token() -> None:
    answer = await only_answer(
        streaming(token(), token(), token(), token("", "length"), usage(7, 3), "[DONE]")
    )
    assert len(answer.arrivals) == 3


async def test_usage_may_come_with_a_token() -> None:
    last = {**token(finish_reason="length"), "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    answer = await only_answer(streaming(token(), token(), last, "[DONE]"))
    assert (answer.error, answer.output_tokens, len(answer.arrivals)) == ("", 3, 3)


async def test_the_request_asks_for_a_greedy_stream_that_does_not_end_early() -> None:
    bodies = []

    async def handle(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return await streaming(*WHOLE)(request)

    await load(handle)
    assert bodies == [
        {
            "model": "some-model",
            "prompt": "prompt 0",
            "max_tokens": 3,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
        }
    ]


async def test_exactly_as_many_requests_are_open_as_there_are_streams() -> None:
    open_now, seen, full = 0, [], asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal open_now
        open_now += 1
        seen.append((await request.json())["prompt"])
        if open_now == 4:
            full.set()
        # Nobody is answered before four are waiting: fewer streams would hang here, more would be counted.
        await full.wait()
        assert open_now <= 4
        open_now -= 1
        return await streaming(*WHOLE)(request)

    record = await asyncio.wait_for(load(handle, prompts=10, streams=4), timeout=20)
    assert sorted(seen) == sorted(f"prompt {index}" for index in range(10))
    assert [answer.error for answer in record.answers] == [""] * 10
    assert record.wall_s > 0


async def test_progress_is_told_once_a_request() -> None:
    told: list[None] = []
    async with serving(streaming(*WHOLE)) as target:
        await run_load(target, Work(("a", "b", "c"), 3, streams=2), lambda: told.append(None))
    assert len(told) == 3


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((token(), {"error": {"message": "shard died", "type": "x"}}), "shard died"),
        ((token(), token(), usage(7, 3)), "the stream ended before [DONE]"),
        ((token(), "[DONE]"), "the stream carried no usage"),
        ((token(), usage(7, 1), "[DONE]"), "answered 1 tokens instead of 3"),
        (("{broken", "[DONE]"), "JSON is malformed"),
    ],
)
async def test_a_stream_that_is_not_whole_is_an_error(events: tuple[Any, ...], expected: str) -> None:
    answer = await only_answer(streaming(*events))
    assert expected in answer.error
    assert answer.arrivals == ()


async def test_a_null_error_is_none() -> None:
    answer = await only_answer(streaming({**token(), "error": None}, token(), token(), usage(7, 3), "[DONE]"))
    assert answer.error == ""


async def test_a_refusal_is_an_error_and_the_others_go_on() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        if (await request.json())["prompt"] == "prompt 1":
            return web.json_response({"error": "overloaded"}, status=429)
        return await streaming(*WHOLE)(request)

    record = await load(handle, prompts=3, streams=2)
    errors = [answer.error for answer in record.answers if answer.error]
    assert len(errors) == 1
    assert errors[0].startswith("status 429")
    assert "overloaded" in errors[0]
    assert sum(answer.output_tokens for answer in record.answers) == 6


async def test_a_server_that_breaks_off_is_an_error() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: ")
        assert request.transport is not None
        request.transport.abort()
        return response

    assert (await only_answer(handle)).error != ""


async def test_nobody_listening_is_an_error() -> None:
    async with serving(streaming()) as target:
        pass
    record = await run_load(target, Work(("a",), 3, streams=1), lambda: None)
    assert "Cannot connect" in record.answers[0].error


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_loopback_addresses_are_taken(host: str) -> None:
    assert Target(f"http://{host}:3000", "m").url.endswith(":3000")


@pytest.mark.parametrize(
    "host", ["example.com", "10.0.0.1", "0.0.0.0", "localhost.example.com", "[2001:db8::1]"]
)
def test_any_other_host_is_refused(host: str) -> None:
    with pytest.raises(RefusedHostError, match="only loopback addresses"):
        Target(f"http://{host}:3000", "m")


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "https://127.0.0.1:3000", "http://", ""])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no http address"):
        Target(url, "m")
