"""The way in for requests: a permit, then a stream of events."""

import time
from types import TracebackType
from typing import Self

from tgi_router.batching.batcher import Batcher
from tgi_router.batching.budget import RequestTooLargeError
from tgi_router.batching.entry import Entry
from tgi_router.generation import (
    EndEvent,
    GenerationEvent,
    IncompleteGenerationError,
    InferenceError,
    OverloadedError,
    ValidRequest,
)
from tgi_router.telemetry.metrics import Metrics


class Inference:
    """Runs generations, at most `max_concurrent_requests` at a time.

    Use it as

        with inference.acquire() as permit:             # OverloadedError when full, before any other work
            request = await validate(...)
            stream = inference.stream(permit, request)
            while events := await stream.take():
                ...
    """

    def __init__(self, batcher: Batcher, metrics: Metrics, *, max_concurrent_requests: int) -> None:
        self._batcher = batcher
        self._metrics = metrics
        self._limit = max_concurrent_requests
        self._taken = 0

    @property
    def free_permits(self) -> int:
        """How many more generations could start now."""
        return self._limit - self._taken

    def acquire(self, members: int = 1) -> "Permit":
        """Take the right to run a request, now or not at all.

        Args:
            members: generations that the request runs side by side (`best_of`); each counts.

        Raises:
            OverloadedError: too many generations are running or queued.
            RequestTooLargeError: so many can never run at a time.
        """
        self._metrics.request_count.inc()
        if members > self._limit:
            self._metrics.request_failure.labels("validation").inc()
            self._metrics.request_refused.labels("validation").inc()
            raise RequestTooLargeError(
                f"{members} generations are asked for at once, but at most {self._limit} can run"
            )
        if members > self.free_permits:
            self._metrics.request_failure.labels("overloaded").inc()
            self._metrics.request_refused.labels("overloaded").inc()
            raise OverloadedError("Model is overloaded")
        self._taken += members
        return Permit(self, members)

    def stream(self, permit: "Permit", request: ValidRequest) -> "GenerationStream":
        """Queue a generation; its events come from the stream.

        Raises:
            RequestTooLargeError: the request could never run on these shards.
            ShardError: the server is shutting down.
        """
        if not permit.has_room:
            raise RuntimeError("a permit runs as many generations as it was taken for")
        try:
            entry = self._batcher.submit(request, arrived_at=permit.acquired_at)
        except InferenceError as error:
            permit.failed(error.error_type)
            raise
        self._metrics.request_input_length.observe(request.input_length)
        self._metrics.request_max_new_tokens.observe(request.stopping.max_new_tokens)
        stream = GenerationStream(self, permit, entry)
        permit.attach(stream)
        return stream

    def give_back(self, members: int) -> None:
        """Free permits; called by the permit itself."""
        self._taken -= members

    def cancel(self, entry: Entry) -> None:
        """Drop a generation that nobody reads any more; called by its stream."""
        self._batcher.cancel(entry)

    def record_success(self, end: EndEvent, permit: "Permit") -> None:
        """Count a request that was answered in full, with its times."""
        now = time.monotonic()
        inference_seconds = now - end.started_at
        metrics = self._metrics
        metrics.request_success.inc()
        metrics.request_duration.observe(now - permit.acquired_at)
        metrics.request_validation_duration.observe(end.queued_at - permit.acquired_at)
        metrics.request_queue_duration.observe(end.started_at - end.queued_at)
        metrics.request_inference_duration.observe(inference_seconds)
        metrics.request_mean_time_per_token_duration.observe(inference_seconds / max(end.generated_tokens, 1))
        metrics.request_generated_tokens.observe(end.generated_tokens)

    def record_failure(self, cause: str) -> None:
        """Count a request that was not answered in full."""
        self._metrics.request_failure.labels(cause).inc()


class Permit:
    """The right to run one request's generations, until they are closed.

    Leaving its `with` block closes what is still open, so that nothing outlives its request.

    Attributes:
        acquired_at: when it was taken, which is when the request arrived; `time.monotonic()` seconds.
    """

    def __init__(self, inference: Inference, members: int) -> None:
        self.acquired_at = time.monotonic()
        self._inference = inference
        self._held = members
        self._unanswered = members
        self._failed = False
        self._streams: list[GenerationStream] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Close every stream of this permit and give it back. Doing it twice is harmless."""
        for stream in tuple(self._streams):
            stream.close()
        self._inference.give_back(self._held)
        self._held = 0

    @property
    def has_room(self) -> bool:
        """Whether one more generation may start under it."""
        return len(self._streams) < self._held

    def attach(self, stream: "GenerationStream") -> None:
        """Tie a stream to this permit."""
        self._streams.append(stream)

    def detach(self, stream: "GenerationStream") -> None:
        """Give back the share of a stream that was closed."""
        if stream in self._streams:
            self._streams.remove(stream)
            self._held -= 1
            self._inference.give_back(1)

    def answered(self, end: EndEvent) -> None:
        """Note that one generation ended well; the request did once all of them have."""
        self._unanswered -= 1
        if self._unanswered == 0:
            self._inference.record_success(end, self)

    def failed(self, cause: str) -> None:
        """Note that one generation failed; the request is counted as failed once."""
        if not self._failed:
            self._failed = True
            self._inference.record_failure(cause)


class GenerationStream:
    """The events of one generation: prompt tokens if asked for, then tokens, then the end.

    Close it when done: while it is open it holds its permit.
    """

    def __init__(self, inference: Inference, permit: Permit, entry: Entry) -> None:
        self._inference = inference
        self._permit = permit
        self._entry = entry
        self._finished = False
        self._closed = False

    async def take(self) -> list[GenerationEvent]:
        """All events that are ready, after waiting for at least one; empty after the last.

        Raises:
            ShardError: a shard failed, or refused the request.
            IncompleteGenerationError: the events stopped before the last one.
        """
        if self._finished or self._closed:
            return []
        try:
            events = await self._entry.stream.take()
        except InferenceError as error:
            self._finish(error.error_type)
            raise
        if not events:
            self._finish("incomplete")
            raise IncompleteGenerationError("Incomplete generation")
        last = events[-1]
        if isinstance(last, EndEvent):
            self._finished = True
            self._permit.answered(last)
        return events

    def close(self) -> None:
        """Stop the generation if it still runs, and give its permit back. Doing it twice is harmless."""
        if self._closed:
            return
        self._closed = True
        if not self._finished:
            self._inference.cancel(self._entry)
            self._finish("dropped")
        self._permit.detach(self)

    def _finish(self, failure: str) -> None:
        self._finished = True
        self._permit.failed(failure)
