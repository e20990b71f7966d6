"""Hands a step's results to the requests they belong to, and gives memory back when a request ends."""

import time
from collections.abc import Iterable, Sequence

from tgi_proto import generate_pb2 as pb
from tgi_router.batching.blocks import BlockAllocator
from tgi_router.batching.entry import Entry
from tgi_router.batching.events import read_end, read_prefill, read_token_events
from tgi_router.batching.tally import StepTally
from tgi_router.client.messages import StepResult
from tgi_router.generation import InferenceError, ShardError, TokenEvent
from tgi_router.telemetry.metrics import Metrics


class Delivery:
    """The way of generations to their readers.

    Args:
        allocator: where the blocks of ended requests go back to; None for shards that take no blocks.
        metrics: told of every token.
    """

    def __init__(self, allocator: BlockAllocator | None, metrics: Metrics) -> None:
        self._allocator = allocator
        self._metrics = metrics

    def deliver(self, entries: dict[int, Entry], result: StepResult) -> None:
        """Push what a step generated. Requests that ended, well or not, are taken out of `entries`."""
        now = time.monotonic()
        tally = StepTally(now)
        for generation in result.generations:
            entry = entries.get(generation.request_id)
            if entry is None:
                continue
            try:
                ended = self._hand_over(entry, generation, now, tally)
            except (LookupError, ValueError) as error:
                self.fail(entry, ShardError(f"the shard's answer makes no sense: {error}"))
                ended = True
            if ended:
                del entries[entry.id]
        tally.record(self._metrics)
        for request_id, message in result.errors.items():
            failed = entries.pop(request_id, None)
            if failed is not None:
                self.fail(failed, ShardError(message))

    def drop(self, entry: Entry) -> None:
        """Let go of a request that was cancelled between two steps; what it computed stays of use."""
        self._publish_computed(entry)
        self._free(entry)

    def fail(self, entry: Entry, error: InferenceError) -> None:
        """End a request with an error. What its last step wrote is not trusted."""
        entry.stream.end(error)
        self._free(entry)

    def fail_all(self, entries: Iterable[Entry], error: InferenceError) -> None:
        """End requests with one error."""
        for entry in entries:
            self.fail(entry, error)

    def _hand_over(self, entry: Entry, generation: pb.Generation, now: float, tally: StepTally) -> bool:
        """Push one generation; whether it was the request's last.

        Raises:
            ValueError, LookupError: it contradicts itself; nothing was pushed.
        """
        events = read_token_events(generation)
        end = None
        if generation.HasField("generated_text"):
            end = read_end(events, generation.generated_text, entry)
        push = entry.stream.push
        if entry.request.prefill_logprobs and generation.HasField("prefill_tokens"):
            push(read_prefill(generation))
        if events:
            self._note_tokens(entry, events, now, tally)
        if end is None:
            for event in events:
                push(event)
            return False
        for event in events[:-1]:
            push(event)
        push(end)
        entry.stream.end()
        self.drop(entry)
        return True

    def _note_tokens(self, entry: Entry, events: Sequence[TokenEvent], now: float, tally: StepTally) -> None:
        if entry.last_token_at is None:
            self._metrics.request_time_to_first_token_duration.observe(now - entry.arrived_at)
            # Its prompt is computed: others may use it from the next step on.
            self._publish(entry, entry.request.input_ids)
        tally.add(entry.last_token_at, len(events))
        entry.last_token_at = now
        entry.output_ids.extend([event.token.id for event in events])

    def _publish_computed(self, entry: Entry) -> None:
        """Share what a request has computed: all but its last token, or the first chunk of its prompt.

        Later chunks are planned by the shard, which does not tell how far it got.
        """
        prompt = entry.request.input_ids
        if entry.output_ids:
            self._publish(entry, [*prompt, *entry.output_ids[:-1]])
        elif entry.allocation is not None:
            chunk = entry.chunk_length if entry.chunk_length is not None else len(prompt)
            self._publish(entry, prompt[: entry.allocation.prefix_length + chunk])

    def _publish(self, entry: Entry, ids: Sequence[int]) -> None:
        if self._allocator is not None and entry.allocation is not None and entry.cacheable:
            self._allocator.publish(entry.allocation, ids)

    def _free(self, entry: Entry) -> None:
        if self._allocator is not None and entry.allocation is not None:
            self._allocator.free(entry.allocation)
            entry.allocation = None
