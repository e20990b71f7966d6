"""Peers that hold up, flood or break off: each is answered or cut off, and nothing stays behind."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from support.http_bench import ScriptedBatcher, events, make_services
from support.server import free_port
from tgi_router.generation import TokenEvent
from tgi_router.http.application import build_application
from tgi_router.http.connection import ConnectionLimits
from tgi_router.http.server import listen
from tgi_router.infer import Inference

POST = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
STREAM = POST.replace(b"/generate", b"/generate_stream")
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Served:
    """A server on a real port, and what stands behind it."""

    port: int
    batcher: ScriptedBatcher
    inference: Inference

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, *pieces: bytes) -> bytes:
        """Send bytes; all that comes back until the server closes the connection."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        return answer


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server: `await serve(header_timeout=..., body_timeout=..., ...)`."""
    async with AsyncExitStack() as stack:

        async def build(
            header_timeout: float = 30.0,
            write_timeout: float = 30.0,
            max_connections: int = 64,
            **options: Any,
        ) -> Served:
            batcher = ScriptedBatcher()
            services = make_services(batcher, **options)
            limits = ConnectionLimits(header_timeout, write_timeout, max_connections)
            port = free_port()
            runner = await listen(build_application(services), "127.0.0.1", port, limits)
            stack.push_async_callback(runner.cleanup)
            return Served(port, batcher, services.inference)

        yield build


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


def parse(answer: bytes) -> tuple[int, dict[str, Any]]:
    """Status and JSON of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http \r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nBroken header\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 1000 + b"\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    ],
)
async def test_what_is_not_http_is_a_400_that_says_nothing_of_the_server(serve: Serve, sent: bytes) -> None:
    served = await serve()
    answer = await served.send(sent)
    status, body = parse(answer)
    assert (status, body["error_type"]) == (400, "bad_request")
    assert b"aiohttp" not in answer
    assert b"Python" not in answer
    assert b"x-request-id" in answer.lower()


async def test_chunks_that_are_none_are_400(serve: Serve) -> None:
    served = await serve()
    status, _ = parse(await served.send(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"))
    assert status == 400


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_does_not_arrive_in_time_ends_the_connection(serve: Serve, sent: bytes) -> None:
    served = await serve(header_timeout=0.05)
    assert await served.send(sent) == b""


async def test_a_connection_may_idle_between_requests_but_not_within_a_head(serve: Serve) -> None:
    served = await serve(header_timeout=0.05)
    reader, writer = await served.connect()
    for _ in range(3):
        writer.write(HEALTH)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.1)
    writer.write(HEALTH[:20])
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


async def test_a_request_that_takes_long_is_not_a_slow_head(serve: Serve) -> None:
    served = await serve(header_timeout=0.02)
    reader, writer = await served.connect()
    writer.write(POST + b'Content-Length: 15\r\n\r\n{"inputs":"hi"}')
    await until(lambda: len(served.batcher.entries) == 1)
    await asyncio.sleep(0.1)
    for event in events("a"):
        served.batcher.entries[0].stream.push(event)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize(
    "sent", [POST + b"Content-Length: 100\r\n\r\n{", POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
)
async def test_a_body_that_does_not_arrive_in_time_is_408(serve: Serve, sent: bytes) -> None:
    served = await serve(body_timeout=0.05)
    status, body = parse(await served.send(sent))
    assert (status, body["error_type"]) == (408, "request_timeout")


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Content-Length: 100000000\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + b" " * 1000 + b"\r\n",
    ],
)
async def test_a_body_beyond_the_limit_is_413_before_it_has_ended(serve: Serve, sent: bytes) -> None:
    served = await serve(payload_limit=100)
    reader, writer = await served.connect()
    writer.write(sent)
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":"a","other":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"inputs":"a","parameters":{"grammar":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}}",
        b"[" * 2_000_000,
        b'{"inputs":"' + b"\\" * 1_000_001 + b'","x":' + b"[" * 1000,
        b'{"inputs":NaN}',
        b'{"inputs":"a","parameters":{"temperature":Infinity}}',
        b'{"inputs":"a","parameters":{"temperature":1e999}}',
        b'{"inputs":"a","parameters":{"top_k":' + b"9" * 10_000 + b"}}",
        b'{"inputs":"\\ud800"}',
        b'{"inputs":"\xed\xa0\x80"}',
        b'{"inputs":"a"',
    ],
)
async def test_json_that_is_meant_to_hurt_is_a_4xx(serve: Serve, body: bytes) -> None:
    served = await serve()
    head = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    status, answer = parse(await served.send(head, body))
    assert status in (400, 422)
    assert "Traceback" not in answer["error"]
    assert not served.batcher.entries


async def test_brackets_in_a_text_are_no_nesting(serve: Serve) -> None:
    served = await serve()
    body = json.dumps({"inputs": '[{"' * 100 + "\\", "more": [[1], {"a": [2]}] * 500}).encode()
    _, writer = await served.connect()
    writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await until(lambda: len(served.batcher.entries) == 1)
    writer.close()


async def test_too_many_connections_are_refused_until_one_closes(serve: Serve) -> None:
    served = await serve(max_connections=1)
    first_reader, first = await served.connect()
    first.write(HEALTH)
    await first_reader.readuntil(b"\r\n\r\n")
    status, body = parse(await served.send())
    assert (status, body["error_type"]) == (503, "overloaded")
    first.close()
    await first.wait_closed()

    async def answered() -> bool:
        reader, writer = await served.connect()
        writer.write(HEALTH)
        line = await reader.readline()
        writer.close()
        return b"200" in line

    async with asyncio.timeout(20):
        while not await answered():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


async def test_a_client_that_stops_reading_its_stream_is_cut_off_and_its_generation_dropped(
    serve: Serve,
) -> None:
    served = await serve(write_timeout=0.05)
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, ("127.0.0.1", served.port))
    await loop.sock_sendall(peer, STREAM + b'Content-Length: 15\r\n\r\n{"inputs":"hi"}')
    await until(lambda: len(served.batcher.entries) == 1)
    [first, *_] = events("x" * 10_000)
    assert isinstance(first, TokenEvent)
    entry = served.batcher.entries[0]
    async with asyncio.timeout(20):
        while not served.batcher.cancelled:
            entry.stream.push(first)
            await asyncio.sleep(0.001)
    assert served.batcher.cancelled == [entry]
    await until(lambda: served.inference.free_permits == 8)
    peer.close()
