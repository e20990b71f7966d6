"""Batches that the shards hold, and the steps of them that were sent and not answered yet."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tgi_proto import generate_pb2 as pb
from tgi_router.batching.entry import Entry
from tgi_router.client.messages import StepResult

# Seconds for the answers that are still to come after one that failed.
ABANDON_TIMEOUT = 30.0


@dataclass(slots=True, eq=False)
class RunningBatch:
    """A batch that the shards hold.

    Attributes:
        cached: what they last said of it.
        entries: the requests that have had a step in it and still want one, by id.
    """

    cached: pb.CachedBatch
    entries: dict[int, Entry]

    @property
    def holds_leavers(self) -> bool:
        """Whether the shards hold requests that nobody wants any more. All entries must be known to them."""
        left = len(self.cached.request_ids) != len(self.entries)
        return left or any(entry.cancelled for entry in self.entries.values())


@dataclass(frozen=True, slots=True, eq=False)
class SentStep:
    """A step on its way.

    Attributes:
        method: `prefill` or `decode`.
        batches: what it runs; what is left of them is one batch under the first one's id.
        new: the requests it starts, by id.
        answer: the call.
    """

    method: str
    batches: Sequence[RunningBatch]
    new: dict[int, Entry]
    answer: asyncio.Task[StepResult]


class Flight:
    """What the shards hold, and the steps in flight: they run and answer them in the order they were sent.

    Args:
        limit: how many steps there may be in flight.

    Attributes:
        batches: what they hold, or will once the steps in flight are done.
    """

    def __init__(self, limit: int) -> None:
        self.batches: list[RunningBatch] = []
        self._limit = limit
        self._steps: deque[SentStep] = deque()

    @property
    def empty(self) -> bool:
        """Whether every step is answered."""
        return not self._steps

    @property
    def full(self) -> bool:
        """Whether no other step may be sent at present."""
        return len(self._steps) >= self._limit

    @property
    def size(self) -> int:
        """How many requests were sent and have not ended."""
        started = sum(len(batch.entries) for batch in self.batches)
        return started + sum(len(step.new) for step in self._steps)

    @property
    def holds_leavers(self) -> bool:
        """Whether the shards hold requests that nobody wants any more."""
        return any(batch.holds_leavers for batch in self.batches)

    @property
    def holds_cut_prompt(self) -> bool:
        """Whether a prompt that was cut is still being computed: the shards fill their steps with it."""
        return any(entry.chunk_length is not None and entry.last_token_at is None for entry in self.entries())

    @property
    def brings_all(self) -> bool:
        """Whether the steps in flight bring every request its last token at most: another would be empty."""
        coming = len(self._steps)
        return all(
            len(entry.output_ids) + coming >= entry.request.stopping.max_new_tokens
            for entry in self.entries()
        )

    def entries(self) -> Iterator[Entry]:
        """The requests that were sent and have not ended."""
        for batch in self.batches:
            yield from batch.entries.values()
        for step in self._steps:
            yield from step.new.values()

    def send(
        self,
        method: str,
        batches: Sequence[RunningBatch],
        new: dict[int, Entry],
        call: Coroutine[Any, Any, StepResult],
    ) -> None:
        """Send a step; the first of its batches is what is left of all."""
        if batches[0] not in self.batches:
            self.batches.append(batches[0])
        self._steps.append(SentStep(method, batches, new, asyncio.create_task(call, name=method)))

    async def land(self) -> SentStep:
        """Take out the oldest step once it is answered, well or not; what it ran is one batch from now on."""
        await asyncio.wait([self._steps[0].answer])
        step = self._steps.popleft()
        first, *others = step.batches
        for other in others:
            first.entries |= other.entries
        first.entries |= step.new
        self.batches = [batch for batch in self.batches if batch not in others]
        return step

    def needs(self, batch: RunningBatch) -> bool:
        """Whether a step in flight runs a batch."""
        return any(batch in step.batches for step in self._steps)

    def give_up(self, batches: Sequence[RunningBatch]) -> tuple[list[RunningBatch], list[Entry]]:
        """Take out batches, and those of all steps in flight; answers them, and all of their requests."""
        ahead = [batch for step in self._steps for batch in step.batches]
        lost = list(dict.fromkeys([*batches, *ahead]))
        self.batches = [batch for batch in self.batches if batch not in lost]
        entries = [entry for batch in lost for entry in batch.entries.values()]
        return lost, [*entries, *(entry for step in self._steps for entry in step.new.values())]

    async def abandon(self) -> None:
        """Wait until the shards are done with all steps, for a bounded time; what they answer is dropped."""
        answers = [step.answer for step in self._steps]
        self._steps.clear()
        if answers:
            await asyncio.wait(answers, timeout=ABANDON_TIMEOUT)
            await _cancel(answers)

    async def close(self) -> None:
        """Forget everything, and wait for no answer any more."""
        answers = [step.answer for step in self._steps]
        self._steps.clear()
        self.batches.clear()
        await _cancel(answers)


async def _cancel(answers: Sequence[asyncio.Task[StepResult]]) -> None:
    for answer in answers:
        answer.cancel()
    await asyncio.gather(*answers, return_exceptions=True)
