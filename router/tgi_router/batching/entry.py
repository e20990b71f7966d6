"""One request between its queueing and its last token."""

from tgi_router.batching.blocks import Allocation
from tgi_router.batching.stream import EventStream
from tgi_router.generation import ValidRequest


class Entry:
    """A request's place in the batcher: its state there and the stream of its events.

    Times are `time.monotonic()` seconds.

    Attributes:
        id: number of the request, unique for the life of the process.
        arrived_at: when the client's request came in.
        queued_at: when it entered the queue.
        started_at: when its first batch was sent.
        last_token_at: when its latest token came.
        cancelled: its reader is gone; the next step leaves it out.
        allocation: its KV blocks, on shards that take blocks, while it runs.
        chunk_length: prompt tokens its first step computes, when the prompt was cut.
        output_ids: the tokens generated so far.
    """

    __slots__ = (
        "allocation",
        "arrived_at",
        "cancelled",
        "chunk_length",
        "id",
        "last_token_at",
        "output_ids",
        "queued_at",
        "request",
        "started_at",
        "stream",
    )

    def __init__(self, entry_id: int, request: ValidRequest, *, arrived_at: float, queued_at: float) -> None:
        self.id = entry_id
        self.request = request
        self.arrived_at = arrived_at
        self.queued_at = queued_at
        self.started_at: float | None = None
        self.last_token_at: float | None = None
        self.cancelled = False
        self.allocation: Allocation | None = None
        self.chunk_length: int | None = None
        self.output_ids: list[int] = []
        self.stream = EventStream()

    @property
    def cacheable(self) -> bool:
        """Whether its tokens' keys and values may be shared with other requests.

        Prompt log-probabilities need the whole prompt computed; an adapter computes other keys and values.
        """
        return not self.request.prefill_logprobs and self.request.adapter_id is None
