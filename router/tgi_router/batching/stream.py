"""The hand-over of one request's events from the batcher to whoever answers the request."""

import asyncio

from tgi_router.generation import GenerationEvent, InferenceError


class EventStream:
    """Events on their way from one writer to one reader, both on the same event loop.

    It holds no more than one request can generate, so it needs no bound of its own. The reader takes
    everything that is there at once: a slow one wakes up once for many tokens.
    """

    __slots__ = ("_ended", "_error", "_events", "_reader")

    def __init__(self) -> None:
        self._events: list[GenerationEvent] = []
        self._reader: asyncio.Future[None] | None = None
        self._error: InferenceError | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    def push(self, event: GenerationEvent) -> None:
        """Add an event; nothing is kept once the stream has ended."""
        if not self._ended:
            self._events.append(event)
            self._wake_reader()

    def end(self, error: InferenceError | None = None) -> None:
        """Say that nothing more will come, because all is said or because of an error."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._wake_reader()

    def discard(self) -> None:
        """End the stream on the reader's side: what was not taken is dropped."""
        self._events.clear()
        self.end()

    async def take(self) -> list[GenerationEvent]:
        """Everything that is ready, after waiting for at least one event; empty once the stream has ended.

        Raises:
            InferenceError: the generation failed, told once all events before the failure were taken.
        """
        while not self._events and not self._ended:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if self._events:
            taken, self._events = self._events, []
            return taken
        if self._error is not None:
            raise self._error
        return []

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
