"""Events are framed as TGI frames them, leave together when ready together, and silence is filled."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientConnectionResetError, web
from aiohttp.test_utils import make_mocked_request
from msgspec import Struct

from support.http_bench import events
from tgi_router.generation import ShardError
from tgi_router.http.errors import Problem
from tgi_router.http.sse import KEEP_ALIVE, EventWriter, append_event, send_events, send_generation


class Message(Struct):
    text: str


class Response:
    """Keeps what is written."""

    def __init__(self, error: Exception | None = None) -> None:
        self.written: list[bytes] = []
        self.error = error
        self.woken = asyncio.Event()

    async def write(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.written.append(bytes(data))
        self.woken.set()


class Stream:
    """Hands out what it was given, batch by batch."""

    def __init__(self, *batches: Any) -> None:
        self.batches = list(batches)

    async def take(self) -> Any:
        batch = self.batches.pop(0) if self.batches else []
        if isinstance(batch, Exception):
            raise batch
        return batch


class Renderer:
    """Writes a letter for each event."""

    def render_token(self, event: Any, out: bytearray) -> None:
        out += b"t"

    def render_end(self, event: Any, out: bytearray) -> None:
        out += b"e"

    def render_error(self, problem: Problem, out: bytearray) -> None:
        out += f"!{problem.status}".encode()


def test_an_event_is_data_and_an_empty_line() -> None:
    out = bytearray(b"before")
    append_event(Message('é"\n'), out)
    append_event(Message("b"), out)
    assert out.decode() == 'beforedata: {"text":"é\\"\\n"}\n\ndata: {"text":"b"}\n\n'


async def test_events_that_are_ready_together_leave_in_one_write() -> None:
    response = Response()
    [first, second, end] = events("a", "b")
    await send_generation(Stream([first], [second, end]), Renderer(), EventWriter(response))
    assert response.written == [b"t", b"te"]


async def test_an_error_is_written_as_an_event() -> None:
    response = Response()
    [first, *_] = events("a")
    await send_generation(Stream([first], ShardError("lost")), Renderer(), EventWriter(response))
    assert response.written == [b"t", b"!424"]


async def test_a_fault_of_the_renderer_is_an_error_event_too() -> None:
    class Broken(Renderer):
        def render_token(self, event: Any, out: bytearray) -> None:
            raise ZeroDivisionError

    response = Response()
    await send_generation(Stream(events("a")), Broken(), EventWriter(response))
    assert response.written == [b"!500"]


async def test_a_lost_connection_is_passed_on() -> None:
    with pytest.raises(ConnectionResetError):
        await send_generation(Stream(events("a")), Renderer(), EventWriter(Response(ConnectionResetError())))


async def test_silence_is_filled_with_comments() -> None:
    response = Response()
    with EventWriter(response, keep_alive_seconds=0.01):
        async with asyncio.timeout(10):
            while len(response.written) < 3:
                response.woken.clear()
                await response.woken.wait()
    assert set(response.written) == {KEEP_ALIVE}
    assert KEEP_ALIVE == b":\n\n"


async def test_after_the_end_nothing_more_is_written() -> None:
    response = Response()
    with EventWriter(response, keep_alive_seconds=0.001) as writer:
        await writer.write(b"x")
    written = list(response.written)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert response.written == written


async def test_keep_alives_do_not_pile_up_behind_a_client_that_does_not_read() -> None:
    class Stuck(Response):
        async def write(self, data: bytes) -> None:
            self.written.append(bytes(data))
            self.woken.set()
            await asyncio.Event().wait()

    response = Stuck()
    with EventWriter(response, keep_alive_seconds=0.001):
        await response.woken.wait()
        for _ in range(20):
            await asyncio.sleep(0.001)
    assert response.written == [KEEP_ALIVE]


async def test_a_client_that_leaves_several_generations_is_a_lost_connection_and_no_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def lost(_response: web.StreamResponse, _data: bytes) -> None:
        raise ClientConnectionResetError("closing")

    monkeypatch.setattr(web.StreamResponse, "write", lost)
    [first, *_] = events("a")
    generations: Any = [(Stream([first]), Renderer()), (Stream([first]), Renderer())]
    with pytest.raises(ConnectionError):
        await send_events(make_mocked_request("POST", "/v1/completions"), {}, generations)
