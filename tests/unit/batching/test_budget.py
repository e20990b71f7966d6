"""Which waiting requests start together: TGI's rules (queue.rs) and where this router differs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fake_engine import PAGED, PAGED_WHOLE_PROMPTS, TGI_PADDED, FakeEngine, FakeShardKind
from support.generations import make_limits, make_request
from tgi_router.batching.blocks import BlockAllocator
from tgi_router.batching.budget import (
    NewBatch,
    PaddedAdmission,
    PagedAdmission,
    RequestTooLargeError,
    Room,
)
from tgi_router.batching.entry import Entry
from tgi_router.batching.prefix_cache import PrefixCache
from tgi_router.batching.queue import RequestQueue
from tgi_router.generation import ValidRequest

ONE_TOKEN_BLOCKS = FakeShardKind(block_size=1, block_count=20000)
PLENTY = 10**6


def queue_of(*requests: ValidRequest) -> RequestQueue:
    queue = RequestQueue()
    for number, request in enumerate(requests):
        queue.append(Entry(number, request, arrived_at=0.0, queued_at=0.0))
    return queue


def paged(kind: FakeShardKind, **limits: int) -> tuple[PagedAdmission, BlockAllocator]:
    allocator = BlockAllocator(kind.block_count, kind.block_size, PrefixCache(kind.block_size))
    return PagedAdmission(allocator, make_limits(FakeEngine(kind), **limits)), allocator


def padded(**limits: int) -> PaddedAdmission:
    return PaddedAdmission(make_limits(FakeEngine(TGI_PADDED), **limits))


def prompt(length: int, token: int = 5) -> list[int]:
    return [token] * length


def ids(batch: NewBatch | None) -> list[int]:
    return [] if batch is None else [entry.id for entry in batch.entries]


def chunks(batch: NewBatch | None) -> list[int | None]:
    return [] if batch is None else [entry.chunk_length for entry in batch.entries]


class TestPagedWithChunking:
    def test_the_last_prompt_is_cut_to_fit(self) -> None:
        # TGI's vector: budget 4096, prompts 3000, 3000, 100.
        admission, _ = paged(ONE_TOKEN_BLOCKS)
        queue = queue_of(*(make_request(prompt(n, n)) for n in (3000, 3001, 100)))

        first = admission.choose(queue, Room(4096, PLENTY))
        assert ids(first) == [0, 1]
        assert chunks(first) == [None, 1096]

        # The shard plans 1905 tokens for the next step (1904 of r1 and 1 of r0): r2 still fits.
        second = admission.choose(queue, Room(4096 - 1905, PLENTY))
        assert ids(second) == [2]
        assert chunks(second) == [None]

    def test_a_budget_that_is_met_exactly_cuts_nothing(self) -> None:
        admission, _ = paged(ONE_TOKEN_BLOCKS)
        queue = queue_of(make_request(prompt(60)), make_request(prompt(40, 6)), make_request(prompt(1, 7)))

        batch = admission.choose(queue, Room(100, PLENTY))

        assert (ids(batch), chunks(batch)) == ([0, 1], [None, None])

    def test_no_step_is_larger_than_its_budget(self) -> None:
        # TGI would round the budget up to whole blocks.
        admission, _ = paged(FakeShardKind(block_size=16, block_count=100))
        queue = queue_of(make_request(prompt(50)))

        assert chunks(admission.choose(queue, Room(33, PLENTY))) == [33]

    def test_batch_max_tokens_counts_whole_prompts_only(self) -> None:
        admission, _ = paged(ONE_TOKEN_BLOCKS)
        queue = queue_of(make_request(prompt(60)), make_request(prompt(60, 6)))

        batch = admission.choose(queue, Room(100, PLENTY))

        assert batch is not None
        assert batch.max_tokens == 60

    def test_without_budget_nobody_starts(self) -> None:
        admission, allocator = paged(PAGED)
        queue = queue_of(make_request(prompt(4)))

        assert admission.choose(queue, Room(0, PLENTY)) is None
        assert admission.choose(queue, Room(-5, PLENTY)) is None
        assert (len(queue), allocator.used) == (1, 0)

    def test_a_known_prefix_costs_no_budget(self) -> None:
        admission, allocator = paged(PAGED)
        known = prompt(32)
        owner = allocator.allocate(40, known)
        assert owner is not None
        allocator.publish(owner, known)
        queue = queue_of(make_request([*known, 1, 2, 3]), make_request(prompt(7, 9)))

        batch = admission.choose(queue, Room(10, PLENTY))

        assert (ids(batch), chunks(batch)) == ([0, 1], [None, None])

    def test_a_request_for_prompt_logprobs_computes_its_whole_prompt(self) -> None:
        admission, allocator = paged(PAGED)
        known = prompt(32)
        owner = allocator.allocate(40, known)
        assert owner is not None
        allocator.publish(owner, known)
        queue = queue_of(make_request([*known, 1], prefill_logprobs=True))

        batch = admission.choose(queue, Room(100, PLENTY))

        assert batch is not None
        allocation = batch.entries[0].allocation
        assert allocation is not None
        assert allocation.prefix_length == 0


class TestPagedMemory:
    def test_requests_start_while_their_blocks_last_first_come_first_served(self) -> None:
        admission, allocator = paged(FakeShardKind(block_size=4, block_count=11))
        # 4 blocks each of 10: two fit. The third blocks the fourth, which would fit.
        large = [make_request(prompt(10, n), 6) for n in range(3)]
        queue = queue_of(*large, make_request(prompt(2), 2))

        assert ids(admission.choose(queue, Room(100, PLENTY))) == [0, 1]
        assert allocator.used == 8
        assert admission.choose(queue, Room(100, PLENTY)) is None
        assert [entry.id for entry in queue] == [2, 3]

    def test_prompt_and_new_tokens_are_reserved_but_for_the_last(self) -> None:
        admission, allocator = paged(FakeShardKind(block_size=4, block_count=50))
        queue = queue_of(make_request(prompt(5), 4))

        admission.choose(queue, Room(100, PLENTY))

        assert allocator.used == 2

    def test_speculated_tokens_are_reserved_too(self) -> None:
        admission, allocator = paged(FakeShardKind(block_size=4, block_count=50, speculate=3))
        queue = queue_of(make_request(prompt(5), 4))

        admission.choose(queue, Room(100, PLENTY))

        assert allocator.used == 3

    def test_a_request_that_needs_every_block_can_start(self) -> None:
        # In TGI, which counts block 0, it would block the queue for good.
        admission, _ = paged(FakeShardKind(block_size=4, block_count=11))
        request = make_request(prompt(20), 21)

        admission.check(request)

        assert ids(admission.choose(queue_of(request), Room(100, PLENTY))) == [0]

    def test_a_request_that_needs_more_blocks_than_exist_is_refused(self) -> None:
        admission, _ = paged(FakeShardKind(block_size=4, block_count=11))

        with pytest.raises(RequestTooLargeError, match=r"41 tokens \(11 KV blocks of 4\), but only 10"):
            admission.check(make_request(prompt(20), 22))


class TestPagedWithoutChunking:
    def test_a_prompt_that_does_not_fit_waits(self) -> None:
        admission, allocator = paged(PAGED_WHOLE_PROMPTS)
        queue = queue_of(make_request(prompt(40)), make_request(prompt(40, 6)))

        batch = admission.choose(queue, Room(64, PLENTY))

        assert (ids(batch), chunks(batch)) == ([0], [None])
        assert allocator.used == allocator.blocks_for(43)

    def test_fewer_than_asked_for_start_not_at_all(self) -> None:
        admission, allocator = paged(PAGED_WHOLE_PROMPTS)
        queue = queue_of(make_request(prompt(40)), make_request(prompt(40, 6)))

        assert admission.choose(queue, Room(64, PLENTY, min_requests=2)) is None
        assert admission.choose(queue, Room(64, PLENTY, min_requests=3)) is None

        assert [entry.id for entry in queue] == [0, 1]
        assert allocator.used == 0

    def test_a_prompt_longer_than_a_step_is_refused(self) -> None:
        admission, _ = paged(PAGED_WHOLE_PROMPTS, max_batch_prefill_tokens=32)

        admission.check(make_request(prompt(32)))
        with pytest.raises(RequestTooLargeError, match="33 tokens, but a step computes at most 32"):
            admission.check(make_request(prompt(33)))


class TestPadded:
    def test_every_prompt_counts_as_long_as_the_longest(self) -> None:
        queue = queue_of(*(make_request(prompt(n), 1) for n in (10, 30, 5)))

        batch = padded().choose(queue, Room(64, 1000))

        assert ids(batch) == [0, 1]
        assert batch is not None
        assert batch.max_tokens == 2 * 30 + 2

    def test_the_rectangle_and_all_new_tokens_must_fit(self) -> None:
        queue = queue_of(*(make_request(prompt(10), 20) for _ in range(4)))

        # n x 10 + n x 20 <= 100
        assert ids(padded().choose(queue, Room(1000, 100))) == [0, 1, 2]

    def test_speculated_tokens_count_once_for_the_batch(self) -> None:
        kind = FakeShardKind(requires_padding=True, support_chunking=False, block_size=1, speculate=11)
        admission = PaddedAdmission(make_limits(FakeEngine(kind)))
        queue = queue_of(*(make_request(prompt(10), 20) for _ in range(4)))

        assert ids(admission.choose(queue, Room(1000, 100))) == [0, 1]

    def test_without_room_nobody_starts(self) -> None:
        queue = queue_of(make_request(prompt(4)))

        assert padded().choose(queue, Room(64, 0)) is None
        assert padded().choose(queue, Room(3, 1000)) is None
        assert len(queue) == 1

    def test_fewer_than_asked_for_start_not_at_all(self) -> None:
        queue = queue_of(make_request(prompt(40)), make_request(prompt(40)))

        assert padded().choose(queue, Room(64, 1000, min_requests=2)) is None
        assert ids(padded().choose(queue, Room(80, 1000, min_requests=2))) == [0, 1]

    def test_a_request_too_large_for_an_empty_batch_is_refused(self) -> None:
        admission = padded(max_batch_prefill_tokens=32, max_batch_total_tokens=40)

        admission.check(make_request(prompt(30), 10))
        with pytest.raises(RequestTooLargeError, match="room for 41 tokens, but a batch has room for 40"):
            admission.check(make_request(prompt(30), 11))
        with pytest.raises(RequestTooLargeError, match="33 tokens, but a step computes at most 32"):
            admission.check(make_request(prompt(33), 1))


@pytest.mark.parametrize("kind", [PAGED, PAGED_WHOLE_PROMPTS, TGI_PADDED])
def test_no_more_requests_start_than_may_join(kind: FakeShardKind) -> None:
    admission = padded() if kind.requires_padding else paged(kind)[0]
    queue = queue_of(*(make_request(prompt(3)) for _ in range(5)))

    assert admission.choose(queue, Room(64, 1000, requests=0)) is None
    assert ids(admission.choose(queue, Room(64, 1000, requests=2))) == [0, 1]
    assert [entry.id for entry in queue] == [2, 3, 4]


@given(
    lengths=st.lists(st.integers(1, 60), max_size=8),
    budget=st.integers(0, 100),
    limit=st.none() | st.integers(0, 5),
    block_count=st.integers(2, 40),
)
@settings(max_examples=150, deadline=None)
def test_a_chunked_step_never_exceeds_its_budget_and_keeps_the_order(
    lengths: list[int], budget: int, limit: int | None, block_count: int
) -> None:
    kind = FakeShardKind(block_size=4, block_count=block_count)
    admission, allocator = paged(kind)
    queue = queue_of(*(make_request(prompt(length, place)) for place, length in enumerate(lengths)))

    batch = admission.choose(queue, Room(budget, PLENTY, limit))

    chosen = list(batch.entries) if batch else []
    assert [entry.id for entry in [*chosen, *queue]] == list(range(len(lengths)))
    assert limit is None or len(chosen) <= limit
    computed = [entry.chunk_length or entry.request.input_length for entry in chosen]
    assert sum(computed) <= budget
    assert all(entry.chunk_length is None for entry in chosen[:-1])
    reserved = [allocator.blocks_for(entry.request.input_length + 3) for entry in chosen]
    assert allocator.used == sum(reserved)
    if not chosen and lengths and budget and limit != 0:
        assert allocator.blocks_for(lengths[0] + 3) > allocator.capacity
