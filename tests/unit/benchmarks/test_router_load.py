"""The load client that the router is measured with, against a stand-in that streams as the router does."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.router.load import ROUTES, Load, LoadError, run_load

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
COMPLETIONS = ROUTES[0]


async def load(handler: Handler, *, streams: int = 1, requests: int = 1, tokens: int = 3) -> Load:
    application = web.Application()
    application.router.add_post(COMPLETIONS.path, handler)
    messages = [COMPLETIONS.write_request(f"prompt {number}", tokens) for number in range(requests)]
    async with TestServer(application) as server:
        assert server.port is not None
        return await asyncio.to_thread(run_load, server.port, streams, messages, tokens)


def token() -> str:
    return f'data: {{"choices":[{{"text":" {time.monotonic_ns() // 1000}"}}]}}\n\n'


def streaming(pieces: Callable[[], Sequence[str]]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces():
            await response.write(piece.encode())
        return response

    return handle


async def test_every_token_is_counted_with_the_time_it_took() -> None:
    begun = time.monotonic()
    result = await load(streaming(lambda: [token() for _ in range(3)]), streams=2, requests=6)
    assert len(result.delays_us) == 18
    assert 0 <= min(result.delays_us) <= max(result.delays_us) < 1e6 * (time.monotonic() - begun)


async def test_several_events_may_come_together() -> None:
    pieces = [":\n\n", token() * 2, token() + "data: [DONE]\n\n"]
    assert len((await load(streaming(lambda: pieces))).delays_us) == 3


async def test_an_answer_may_come_in_small_pieces() -> None:
    chunk = token() + token()
    answer = f"HTTP/1.1 200 OK\r\n\r\n{len(chunk):x}\r\n{chunk}\r\n0\r\n\r\n".encode()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        for start in range(0, len(answer), 13):
            writer.write(answer[start : start + 13])
            await asyncio.sleep(0)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        requests = [COMPLETIONS.write_request("prompt", 2)]
        assert len((await asyncio.to_thread(run_load, port, 1, requests, 2)).delays_us) == 2


async def test_more_connections_than_requests_are_not_used() -> None:
    assert len((await load(streaming(lambda: [token()]), streams=5, requests=2, tokens=1)).delays_us) == 2


async def test_an_answer_of_another_length_is_an_error() -> None:
    with pytest.raises(LoadError, match="answered 2 tokens instead of 3"):
        await load(streaming(lambda: [token(), token()]))


async def test_a_refusal_is_an_error_with_its_words() -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": "Model is overloaded"}, status=429)

    with pytest.raises(LoadError, match="429"):
        await load(refuse)


async def test_a_connection_that_breaks_is_an_error() -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(token().encode())
        assert request.transport is not None
        request.transport.abort()
        return response

    with pytest.raises((LoadError, ConnectionError)):
        await load(break_off)
