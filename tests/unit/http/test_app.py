"""The router's life: what it needs to start, and how it ends."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.fake_shard import FakeShards
from support.lone_router import write_number_model
from support.server import free_port
from tgi_common.hub import ModelSource
from tgi_router import app
from tgi_router.app import Router, start
from tgi_router.batching.room import JoinPolicy
from tgi_router.client.warmup import WantedLimits
from tgi_router.generation import ShardError
from tgi_router.http.connection import ConnectionLimits
from tgi_router.http.server import ListenError
from tgi_router.settings import RouterSettings
from tgi_router.text.grammar import GrammarLimits
from tgi_router.text.tokenizer import TokenizerError


@pytest.fixture
async def shards(tmp_path: Path) -> AsyncIterator[FakeShards]:
    async with FakeShards(tmp_path / "fake", step_seconds=0.002) as shards:
        yield shards


@pytest.fixture
def settings(tmp_path: Path) -> RouterSettings:
    return RouterSettings(
        model_id="org/numbers",
        tokenizer_source=ModelSource(str(write_number_model(tmp_path / "model"))),
        tokenizer_config=None,
        trust_remote_code=False,
        master_shard_uds_path=tmp_path / "fake-0",
        hostname="127.0.0.1",
        port=free_port(),
        limits=WantedLimits(max_batch_prefill_tokens=200, max_input_tokens=100, max_total_tokens=240),
        policy=JoinPolicy(),
        max_concurrent_requests=8,
        max_best_of=2,
        max_stop_sequences=4,
        max_top_n_tokens=5,
        max_choices=4,
        max_messages=8,
        max_tools=4,
        max_biased_tokens=6,
        grammar_support=True,
        grammar_limits=GrammarLimits(),
        tool_call_parser=None,
        reasoning_parser=None,
        max_client_batch_size=4,
        validation_workers=1,
        payload_limit=1000,
        cors_allow_origin=(),
        compute_type=None,
        api_keys=(),
        protect_metrics=False,
        kserve=False,
        aip_health_route=None,
        aip_predict_route=None,
        body_timeout=60.0,
        connections=ConnectionLimits(header_timeout=30.0, write_timeout=60.0, max_connections=64),
    )


@pytest.fixture
async def router(shards: FakeShards, settings: RouterSettings) -> AsyncIterator[Router]:
    router = await start(settings)
    yield router
    await router.close()


def url(settings: RouterSettings, path: str) -> str:
    return f"http://127.0.0.1:{settings.port}{path}"


async def test_it_serves_what_it_was_told_within_the_shards_limits(
    router: Router, settings: RouterSettings
) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(url(settings, "/info")) as reply:
            info = await reply.json()
        assert (info["model_id"], info["max_concurrent_requests"]) == ("org/numbers", 8)
        assert (info["max_input_tokens"], info["max_total_tokens"]) == (100, 240)
        async with session.get(url(settings, "/health")) as reply:
            assert reply.status == 200
        body = {"inputs": "1 2 3", "parameters": {"max_new_tokens": 5, "details": True}}
        async with session.post(url(settings, "/generate"), json=body) as reply:
            assert (await reply.json())["details"]["generated_tokens"] == 5
            assert reply.headers["x-compute-type"] in {"cpu+optimized", "gpu+optimized"}
        json_type = {"content-type": "application/json"}
        async with session.post(url(settings, "/generate"), data=b" " * 1001, headers=json_type) as reply:
            assert reply.status == 413


async def test_it_finishes_open_requests_and_takes_no_new_ones(
    shards: FakeShards, settings: RouterSettings
) -> None:
    router = await start(settings)
    body = {"prompt": "1 2 3", "max_tokens": 100, "temperature": 0, "stream": True}
    async with aiohttp.ClientSession() as session:
        async with session.post(url(settings, "/v1/completions"), json=body) as reply:
            first = json.loads((await reply.content.readline()).removeprefix(b"data: "))
            assert first["choices"][0]["finish_reason"] is None
            closing = asyncio.create_task(router.close())
            await asyncio.sleep(0)
            rest = await reply.read()
        assert rest.count(b"data: ") == 99 + len(["[DONE]"])
        assert rest.endswith(b"data: [DONE]\n\n")
        await closing
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(url(settings, "/health"))


async def test_connections_without_a_whole_request_do_not_hold_it_up(
    shards: FakeShards, settings: RouterSettings
) -> None:
    router = await start(settings)
    for sent in (b"", b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", settings.port)
        writer.write(sent)
        if sent.endswith(b"\r\n\r\n"):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(10):
        await router.close()


async def test_a_port_in_use_is_named(router: Router, settings: RouterSettings) -> None:
    with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{settings.port}"):
        await start(settings)


async def test_a_peer_that_does_not_speak_http_is_told_so_and_leaves_no_traceback(
    router: Router, settings: RouterSettings, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400 Bad Request")
    assert json.loads(body)["error_type"] == "bad_request"
    assert b"aiohttp" not in head
    writer.close()
    assert not caplog.records


async def test_shards_that_do_not_answer_are_named(settings: RouterSettings) -> None:
    with pytest.raises(ShardError, match=r"fake-0"):
        await start(settings)


async def test_a_model_without_a_tokenizer_is_told_before_the_shards_are_asked(
    settings: RouterSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        await start(replace(settings, tokenizer_source=ModelSource(str(folder))))


async def test_the_first_signal_ends_gently_and_the_second_at_once(
    shards: FakeShards, settings: RouterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    closing = asyncio.Event()
    closed = asyncio.Event()

    async def close(_: Router) -> None:
        closing.set()
        await closed.wait()

    monkeypatch.setattr(Router, "close", close)
    started: Any = asyncio.Event()
    real_start = app.start

    async def start_and_tell(settings: RouterSettings) -> Router:
        router = await real_start(settings)
        started.set()
        return router

    monkeypatch.setattr(app, "start", start_and_tell)
    serving = asyncio.create_task(app.serve(settings))
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await closing.wait()
    assert not codes
    os.kill(os.getpid(), signal.SIGINT)
    async with asyncio.timeout(5):
        while not codes:  # noqa: ASYNC110 - signals are told between steps of the loop
            await asyncio.sleep(0.001)
    assert codes == [1]
    closed.set()
    await serving


async def test_a_signal_while_starting_ends_the_start(
    settings: RouterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def never(_: RouterSettings) -> Router:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("cannot happen")

    monkeypatch.setattr(app, "start", never)
    serving = asyncio.create_task(app.serve(settings))
    await begun.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(5):
        await serving
