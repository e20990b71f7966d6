"""Sequences that are stepped together, kept under an id between calls."""

from collections.abc import Iterable
from dataclasses import dataclass

from tgi_shard.engine.results import BatchState
from tgi_shard.engine.sequence import Sequence


class UnknownBatchError(ValueError):
    """No batch with this id is cached."""


@dataclass(slots=True)
class Batch:
    """The running sequences of one batch, in the order they joined."""

    id: int
    sequences: list[Sequence]

    def state(self, block_size: int) -> BatchState:
        """What the router needs to know of it."""
        return BatchState(
            id=self.id,
            request_ids=[sequence.id for sequence in self.sequences],
            max_tokens=sum(len(sequence.request.blocks) for sequence in self.sequences) * block_size,
            next_tokens=sum(sequence.query_length for sequence in self.sequences),
        )


class BatchCache:
    """The batches between calls. Every look-up is checked before anything is changed."""

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}

    def get(self, batch_id: int) -> Batch:
        """The batch with this id.

        Raises:
            UnknownBatchError: there is none.
        """
        try:
            return self._batches[batch_id]
        except KeyError:
            raise UnknownBatchError(f"batch {batch_id} is not in the cache") from None

    def get_all(self, batch_ids: Iterable[int]) -> list[Batch]:
        """All of these batches, each once.

        Raises:
            UnknownBatchError: one is missing; ValueError: none was named, or one twice.
        """
        batches = [self.get(batch_id) for batch_id in batch_ids]
        if not batches:
            raise ValueError("no batch was named; send at least one cached batch")
        if len({batch.id for batch in batches}) < len(batches):
            raise ValueError("a batch was named twice")
        return batches

    def put(self, batch: Batch) -> None:
        """Keep a batch, in place of one with the same id."""
        self._batches[batch.id] = batch

    def check_free(self, batch_id: int) -> None:
        """Refuse an id that a cached batch has.

        Raises:
            ValueError: naming it.
        """
        if batch_id in self._batches:
            raise ValueError(
                f"batch {batch_id} is in the cache already; choose another id, or clear it first"
            )

    def drop(self, batch_id: int) -> None:
        """Forget a batch; one that is not there is fine."""
        self._batches.pop(batch_id, None)

    def clear(self) -> None:
        """Forget all."""
        self._batches.clear()

    def request_ids(self) -> set[int]:
        """Ids of all requests in flight."""
        return {sequence.id for batch in self._batches.values() for sequence in batch.sequences}


def keep_requests(batch: Batch, keep: list[int]) -> Batch:
    """The batch with only these requests, in this order.

    Raises:
        ValueError: the list is empty, names a request twice, or names one that the batch does not hold.
    """
    by_id = {sequence.id: sequence for sequence in batch.sequences}
    if not keep:
        raise ValueError("no request is kept; clear the batch instead")
    if len(set(keep)) < len(keep):
        raise ValueError("a request to keep was named twice")
    if missing := [request_id for request_id in keep if request_id not in by_id]:
        raise ValueError(f"batch {batch.id} holds no request {missing[0]}")
    return Batch(batch.id, [by_id[request_id] for request_id in keep])
