"""Server-sent events: their framing, and the writing of generations as they come.

This is the hot path of streaming: the work for a token is one encode into a buffer, and tokens that are ready
together leave in one write.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from aiohttp import web
from msgspec import Struct
from msgspec.json import Encoder

from tgi_router.generation import EndEvent, PrefillEvent, TokenEvent
from tgi_router.http.errors import Problem, describe_in_stream
from tgi_router.infer import GenerationStream

KEEP_ALIVE = b":\n\n"
KEEP_ALIVE_SECONDS = 15.0
DONE = b"data: [DONE]\n\n"

_ENCODER = Encoder()


class EventRenderer(Protocol):
    """Writes one generation's events in the way of one API."""

    def render_prefill(self, event: PrefillEvent, out: bytearray) -> None:
        """Append the events for the prompt, which come only where its log-probabilities were asked for."""

    def render_token(self, event: TokenEvent, out: bytearray) -> None:
        """Append the events for a token that is not the last."""

    def render_end(self, event: EndEvent, out: bytearray) -> None:
        """Append the events for the last token and the end."""

    def render_error(self, problem: Problem, out: bytearray) -> None:
        """Append the event for a failure; nothing of this generation follows it."""


def append_event(message: Struct, out: bytearray) -> None:
    """Append a message as one event."""
    out += b"data: "
    _ENCODER.encode_into(message, out, -1)
    out += b"\n\n"


class EventWriter:
    """An open response of events. While it is entered, a connection that is silent for long is kept alive."""

    def __init__(self, response: web.StreamResponse, keep_alive_seconds: float = KEEP_ALIVE_SECONDS) -> None:
        self._response = response
        self._interval = keep_alive_seconds
        self._loop = asyncio.get_running_loop()
        self._last_write = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        # One timer for the stream, which looks when the last event was: cheaper than one for each event.
        self._timer = self._loop.call_later(self._interval, self._look_for_silence)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._keep_alive is not None:
            self._keep_alive.cancel()

    async def write(self, events: bytes | bytearray) -> None:
        """Send events; waits while the client reads too slowly."""
        self._last_write = self._loop.time()
        await self._response.write(events)

    def _look_for_silence(self) -> None:
        silent = self._loop.time() - self._last_write
        if silent >= self._interval:
            silent = 0.0
            # One that has not left yet is enough: the client is not reading.
            if self._keep_alive is None or self._keep_alive.done():
                self._keep_alive = self._loop.create_task(self._send_keep_alive())
        self._timer = self._loop.call_later(self._interval - silent, self._look_for_silence)

    async def _send_keep_alive(self) -> None:
        with suppress(ConnectionError):  # the client is gone, which ends the request's own task
            await self.write(KEEP_ALIVE)


async def send_events(
    request: web.Request,
    headers: Mapping[str, str],
    generations: Sequence[tuple[GenerationStream, EventRenderer]],
    append_ending: Callable[[bytearray], None] | None = None,
) -> web.StreamResponse:
    """Answer with the events of generations that run side by side, each event as soon as it is there.

    Args:
        request: what is answered.
        headers: of the response, whose status is 200.
        generations: each with the way to write its events.
        append_ending: appends the events that follow when all have ended.
    """
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    with EventWriter(response) as writer:
        try:
            # A task for each, also for one: the handler is a dozen calls deep in its own, and each wake-up
            # walks through all of them.
            async with asyncio.TaskGroup() as group:
                for stream, renderer in generations:
                    group.create_task(send_generation(stream, renderer, writer))
        except ExceptionGroup as errors:
            # They share one connection: one that is lost to all of them is one fault, not a group.
            raise errors.exceptions[0] from None
    ending = bytearray()
    if append_ending is not None:
        append_ending(ending)
    await response.write_eof(bytes(ending))
    return response


async def send_generation(stream: GenerationStream, renderer: EventRenderer, writer: EventWriter) -> None:
    """Write a generation's events as they come, and an error event if it fails."""
    try:
        while events := await stream.take():
            out = bytearray()
            for event in events:
                if isinstance(event, TokenEvent):
                    renderer.render_token(event, out)
                elif isinstance(event, EndEvent):
                    renderer.render_end(event, out)
                else:
                    renderer.render_prefill(event, out)
            await writer.write(out)
    except ConnectionError:
        raise  # the client is gone
    except Exception as error:
        out = bytearray()
        renderer.render_error(describe_in_stream(error), out)
        await writer.write(out)
