"""The hand-over of events from the batcher to a reader."""

import asyncio

import pytest

from tgi_router.batching.stream import EventStream
from tgi_router.generation import ShardError, Token, TokenEvent


def event(number: int) -> TokenEvent:
    return TokenEvent(Token(number, str(number), 0.0))


async def test_everything_that_is_ready_is_taken_at_once_and_in_order() -> None:
    stream = EventStream()
    for number in range(3):
        stream.push(event(number))

    assert await stream.take() == [event(0), event(1), event(2)]


async def test_a_reader_waits_for_the_first_event() -> None:
    stream = EventStream()
    reader = asyncio.create_task(stream.take())
    await asyncio.sleep(0)
    assert not reader.done()

    stream.push(event(1))
    stream.push(event(2))

    assert await reader == [event(1), event(2)]


async def test_an_ended_stream_gives_what_is_left_and_then_nothing() -> None:
    stream = EventStream()
    stream.push(event(1))
    stream.end()

    assert await stream.take() == [event(1)]
    assert await stream.take() == []
    assert await stream.take() == []


async def test_a_waiting_reader_learns_of_the_end() -> None:
    stream = EventStream()
    reader = asyncio.create_task(stream.take())
    await asyncio.sleep(0)

    stream.end()

    assert await reader == []


async def test_an_error_comes_after_the_events_before_it() -> None:
    stream = EventStream()
    stream.push(event(1))
    stream.end(ShardError("broken"))

    assert await stream.take() == [event(1)]
    with pytest.raises(ShardError, match="broken"):
        await stream.take()


async def test_nothing_is_kept_after_the_end() -> None:
    stream = EventStream()
    stream.end()
    stream.push(event(1))
    stream.end(ShardError("too late"))

    assert await stream.take() == []


async def test_a_reader_that_leaves_drops_what_it_did_not_take() -> None:
    stream = EventStream()
    stream.push(event(1))

    stream.discard()
    stream.push(event(2))

    assert stream.ended
    assert await stream.take() == []


async def test_a_cancelled_reader_can_be_followed_by_another() -> None:
    stream = EventStream()
    reader = asyncio.create_task(stream.take())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    stream.push(event(1))

    assert await stream.take() == [event(1)]
