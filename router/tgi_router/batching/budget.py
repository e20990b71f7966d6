"""Admission: which waiting requests fit into the next step, by TGI's rules (backends/v3/src/queue.rs)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tgi_router.batching.blocks import Allocation, BlockAllocator
from tgi_router.batching.entry import Entry
from tgi_router.batching.queue import RequestQueue
from tgi_router.client.messages import ShardInfo
from tgi_router.client.warmup import ServerLimits
from tgi_router.generation import InferenceError, ValidRequest


class RequestTooLargeError(InferenceError):
    """The request could never run on these shards, however long it waited: HTTP 422."""

    error_type = "validation"


@dataclass(frozen=True, slots=True)
class Room:
    """What the next step has left for new requests.

    Attributes:
        prefill_tokens: prompt tokens it may compute.
        total_tokens: tokens that new requests may grow to; read for padded shards only.
        requests: how many may join; None for any number.
        min_requests: how many there must be to make the running ones wait.
    """

    prefill_tokens: int
    total_tokens: int
    requests: int | None = None
    min_requests: int = 0

    def allows(self, count: int) -> bool:
        """Whether one more request may join `count` others."""
        return self.requests is None or count < self.requests


@dataclass(frozen=True, slots=True)
class NewBatch:
    """Requests that start together, in order, and the tokens that they bring along (`Batch.max_tokens`)."""

    entries: Sequence[Entry]
    max_tokens: int


class Admission(Protocol):
    """Chooses what runs next. An entry that is chosen is out of the queue and has its blocks."""

    def check(self, request: ValidRequest) -> None:
        """Refuse a request that could never be chosen.

        Raises:
            RequestTooLargeError: telling what it needs and what there is.
        """

    def choose(self, queue: RequestQueue, room: Room) -> NewBatch | None:
        """Take as many entries off the front of the queue as there is room for; None when there are none."""


class PagedAdmission:
    """For shards that keep keys and values in blocks: blocks are the room for tokens.

    Deviations from TGI: memory is measured by the blocks that are really free, so that shared ones count
    once; the prefill budget is not rounded up to whole blocks, so that no step is larger than warmup's.
    """

    def __init__(self, allocator: BlockAllocator, limits: ServerLimits) -> None:
        self._allocator = allocator
        self._limits = limits
        self._shard = limits.shard

    def check(self, request: ValidRequest) -> None:
        """Refuse a request that needs more blocks than exist, or a longer step than is allowed."""
        tokens = tokens_to_reserve(request, self._shard)
        needed = self._allocator.blocks_for(tokens)
        if needed > self._allocator.capacity:
            raise RequestTooLargeError(
                f"the request needs room for {tokens} tokens ({needed} KV blocks of "
                f"{self._allocator.block_size}), but only {self._allocator.capacity} blocks exist"
            )
        if not self._shard.support_chunking:
            _check_prompt_fits_a_step(request, self._limits)

    def choose(self, queue: RequestQueue, room: Room) -> NewBatch | None:
        """Take entries off the queue while blocks and prefill budget last; the last prompt may be cut."""
        if room.prefill_tokens <= 0 or len(queue) < room.min_requests:
            return None
        chosen: list[Entry] = []
        prefill = whole = 0
        for entry in queue:
            left = room.prefill_tokens - prefill
            if left <= 0 or not room.allows(len(chosen)):
                break
            allocation = self._allocate(entry)
            if allocation is None:
                break
            missing = entry.request.input_length - allocation.prefix_length
            if missing > left and not self._shard.support_chunking:
                self._allocator.free(allocation)
                break
            entry.allocation = allocation
            entry.chunk_length = left if missing > left else None
            chosen.append(entry)
            prefill += min(missing, left)
            whole += missing if missing <= left else 0
        if len(chosen) < max(room.min_requests, 1):
            self._put_back(chosen)
            return None
        return _take(queue, chosen, whole)

    def _allocate(self, entry: Entry) -> Allocation | None:
        prompt = entry.request.input_ids if entry.cacheable else None
        return self._allocator.allocate(tokens_to_reserve(entry.request, self._shard), prompt)

    def _put_back(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.allocation is not None:
                self._allocator.free(entry.allocation)
            entry.allocation = None
            entry.chunk_length = None


class PaddedAdmission:
    """For shards whose batches are rectangles: every prompt counts as long as the longest."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._speculate = limits.shard.speculate

    def check(self, request: ValidRequest) -> None:
        """Refuse a request that is too large even alone."""
        _check_prompt_fits_a_step(request, self._limits)
        needed = request.input_length + request.stopping.max_new_tokens + self._speculate
        if needed > self._limits.max_batch_total_tokens:
            raise RequestTooLargeError(
                f"the request needs room for {needed} tokens, but a batch has room for "
                f"{self._limits.max_batch_total_tokens} (`max_batch_total_tokens`)"
            )

    def choose(self, queue: RequestQueue, room: Room) -> NewBatch | None:
        """Take entries off the queue while the rectangle and its new tokens fit."""
        if len(queue) < room.min_requests:
            return None
        chosen: list[Entry] = []
        longest = decode = total = 0
        for entry in queue:
            if not room.allows(len(chosen)):
                break
            longest_now = max(longest, entry.request.input_length)
            decode_now = decode + entry.request.stopping.max_new_tokens
            prefill = (len(chosen) + 1) * longest_now
            over_total = prefill + decode_now + self._speculate > room.total_tokens
            if prefill > room.prefill_tokens or over_total:
                break
            longest, decode, total = longest_now, decode_now, prefill + decode_now
            chosen.append(entry)
        if len(chosen) < max(room.min_requests, 1):
            return None
        return _take(queue, chosen, total)


def tokens_to_reserve(request: ValidRequest, shard: ShardInfo) -> int:
    """Tokens whose keys and values are kept: all but the last, which is never computed on."""
    return request.input_length + request.stopping.max_new_tokens + shard.speculate - 1


def _check_prompt_fits_a_step(request: ValidRequest, limits: ServerLimits) -> None:
    if request.input_length > limits.max_batch_prefill_tokens:
        raise RequestTooLargeError(
            f"the prompt has {request.input_length} tokens, but a step computes at most "
            f"{limits.max_batch_prefill_tokens} (`max_batch_prefill_tokens`)"
        )


def _take(queue: RequestQueue, chosen: Sequence[Entry], max_tokens: int) -> NewBatch:
    for entry in chosen:
        queue.remove(entry)
    return NewBatch(chosen, max_tokens)
