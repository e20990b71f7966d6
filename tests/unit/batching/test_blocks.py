"""Reserving, sharing and freeing KV blocks.

TGI's vectors (backends/v3/src/block_allocator.rs, radix.rs) are kept where the rules are the same. Two are
not: sharing happens in whole pages of at least 16 tokens before the prompt's last token, so that a shared
block is never written again; and it starts once the tokens' owner says they are computed, not at its end.
"""

from tgi_router.batching.blocks import BlockAllocator
from tgi_router.batching.prefix_cache import PrefixCache
from tgi_router.client.messages import slots_of

PAGE = 16


def sharing_allocator(blocks: int, block_size: int = PAGE) -> BlockAllocator:
    return BlockAllocator(blocks, block_size, PrefixCache(block_size))


def prompt_of(length: int, start: int = 0) -> list[int]:
    return list(range(start, start + length))


def test_blocks_come_from_the_end_of_the_free_list_and_cover_the_tokens() -> None:
    allocator = BlockAllocator(12, 2)

    allocation = allocator.allocate(8)

    assert allocation is not None
    assert allocation.blocks == [8, 9, 10, 11]
    assert slots_of(allocation.blocks, 2, 8) == list(range(16, 24))
    assert allocation.prefix_length == 0


def test_the_last_block_may_be_filled_in_part() -> None:
    allocator = BlockAllocator(12, 2)

    allocation = allocator.allocate(7)

    assert allocation is not None
    assert allocation.blocks == [8, 9, 10, 11]
    assert slots_of(allocation.blocks, 2, 7) == list(range(16, 23))


def test_freed_blocks_are_given_out_again() -> None:
    allocator = BlockAllocator(12, 2)
    first = allocator.allocate(8)
    assert first is not None
    allocator.free(first)

    second = allocator.allocate(8)

    assert second is not None
    assert second.blocks == [8, 9, 10, 11]


def test_with_blocks_of_one_token_slots_are_the_blocks() -> None:
    allocator = BlockAllocator(7, 1)
    a = allocator.allocate(4)
    b = allocator.allocate(2)

    assert a is not None
    assert b is not None
    assert (a.blocks, b.blocks) == ([3, 4, 5, 6], [1, 2])
    assert slots_of(a.blocks, 1, 4) == a.blocks


def test_block_0_is_never_given_out_and_all_others_are() -> None:
    allocator = BlockAllocator(5, 2)

    assert allocator.capacity == 4
    assert allocator.allocate(9) is None
    everything = allocator.allocate(8)
    assert everything is not None
    assert sorted(everything.blocks) == [1, 2, 3, 4]
    assert allocator.used == 4


def test_a_reservation_that_fails_changes_nothing() -> None:
    allocator = sharing_allocator(6)
    kept = allocator.allocate(3 * PAGE, prompt_of(2 * PAGE))
    assert kept is not None
    allocator.publish(kept, prompt_of(2 * PAGE))
    allocator.free(kept)
    before = (allocator.used, allocator.cached)

    assert allocator.allocate(6 * PAGE, prompt_of(3 * PAGE)) is None

    assert (allocator.used, allocator.cached) == before == (0, 2)


def test_tokens_are_shared_only_once_they_are_published() -> None:
    allocator = sharing_allocator(20)
    first = allocator.allocate(5 * PAGE, prompt_of(3 * PAGE))
    assert first is not None
    too_early = allocator.allocate(5 * PAGE, prompt_of(3 * PAGE))
    assert too_early is not None
    assert too_early.prefix_length == 0

    allocator.publish(first, prompt_of(3 * PAGE))
    while_it_runs = allocator.allocate(5 * PAGE, prompt_of(3 * PAGE))

    assert while_it_runs is not None
    assert while_it_runs.prefix_length == 2 * PAGE
    assert while_it_runs.blocks[:2] == first.blocks[:2]


def test_at_least_one_prompt_token_is_left_to_compute_and_no_shared_block_to_write_to() -> None:
    allocator = sharing_allocator(40)
    for length, matched in ((PAGE, 0), (PAGE + 1, PAGE), (2 * PAGE, PAGE), (2 * PAGE + 1, 2 * PAGE)):
        prompt = prompt_of(length, start=1000 * length)
        first = allocator.allocate(length + 4, prompt)
        assert first is not None
        allocator.publish(first, prompt)
        second = allocator.allocate(length + 4, prompt)
        assert second is not None
        assert second.prefix_length == matched
        own = second.blocks[matched // PAGE :]
        assert not set(own) & set(first.blocks)
        allocator.free(first)
        allocator.free(second)


def test_what_is_not_published_is_not_shared_after_the_end_either() -> None:
    allocator = sharing_allocator(20)
    broken = allocator.allocate(5 * PAGE, prompt_of(3 * PAGE))
    assert broken is not None
    allocator.free(broken)

    again = allocator.allocate(5 * PAGE, prompt_of(3 * PAGE))

    assert again is not None
    assert again.prefix_length == 0


def test_generated_tokens_can_be_shared_with_the_next_turn_of_a_chat() -> None:
    allocator = sharing_allocator(20)
    first = allocator.allocate(4 * PAGE, prompt_of(PAGE))
    assert first is not None
    allocator.publish(first, prompt_of(PAGE))
    allocator.publish(first, prompt_of(3 * PAGE + 5))
    allocator.free(first)

    next_turn = allocator.allocate(6 * PAGE, prompt_of(4 * PAGE))

    assert next_turn is not None
    assert next_turn.prefix_length == 3 * PAGE


def test_a_page_that_two_requests_computed_is_kept_once_and_the_copy_is_freed() -> None:
    allocator = sharing_allocator(20)
    first = allocator.allocate(3 * PAGE, prompt_of(2 * PAGE))
    second = allocator.allocate(3 * PAGE, prompt_of(2 * PAGE))
    assert first is not None
    assert second is not None
    allocator.publish(first, prompt_of(2 * PAGE))
    allocator.publish(second, prompt_of(2 * PAGE))
    assert allocator.used == 6

    allocator.free(second)
    assert (allocator.used, allocator.cached) == (3, 0)
    allocator.free(first)
    assert (allocator.used, allocator.cached) == (0, 2)


def test_shared_blocks_are_counted_once() -> None:
    allocator = sharing_allocator(20)
    requests = []
    for _ in range(3):
        allocation = allocator.allocate(3 * PAGE, prompt_of(2 * PAGE + 1))
        assert allocation is not None
        allocator.publish(allocation, prompt_of(2 * PAGE + 1))
        requests.append(allocation)

    assert allocator.used == 2 + 3 * 1


def test_a_page_may_be_of_several_small_blocks() -> None:
    allocator = sharing_allocator(40, block_size=4)
    first = allocator.allocate(2 * PAGE, prompt_of(PAGE + 3))
    assert first is not None
    allocator.publish(first, prompt_of(PAGE + 3))

    second = allocator.allocate(2 * PAGE, prompt_of(PAGE + 3))

    assert second is not None
    assert second.prefix_length == PAGE
    assert second.blocks[:4] == first.blocks[:4]
    assert allocator.used == 8 + 4


def test_without_a_prefix_cache_nothing_is_shared() -> None:
    allocator = BlockAllocator(20, PAGE)
    first = allocator.allocate(3 * PAGE, prompt_of(2 * PAGE))
    assert first is not None
    allocator.publish(first, prompt_of(2 * PAGE))
    allocator.free(first)

    second = allocator.allocate(3 * PAGE, prompt_of(2 * PAGE))

    assert second is not None
    assert (second.prefix_length, allocator.cached) == (0, 0)


def test_cached_blocks_make_room_for_requests_that_need_them() -> None:
    allocator = sharing_allocator(5)
    first = allocator.allocate(4 * PAGE, prompt_of(4 * PAGE))
    assert first is not None
    allocator.publish(first, prompt_of(4 * PAGE))
    allocator.free(first)
    assert allocator.cached == 4

    other = allocator.allocate(3 * PAGE, prompt_of(PAGE, start=500))

    assert other is not None
    assert (allocator.used, allocator.cached) == (3, 1)
    allocator.free(other)
    returned = allocator.allocate(4 * PAGE, prompt_of(4 * PAGE))
    assert returned is not None
    # The end of a path goes before its beginning.
    assert returned.prefix_length == PAGE


def test_a_reset_frees_everything() -> None:
    allocator = sharing_allocator(10)
    allocation = allocator.allocate(3 * PAGE, prompt_of(2 * PAGE))
    assert allocation is not None
    allocator.publish(allocation, prompt_of(2 * PAGE))

    allocator.reset()

    assert (allocator.used, allocator.cached) == (0, 0)
    everything = allocator.allocate(9 * PAGE, prompt_of(2 * PAGE))
    assert everything is not None
    assert everything.prefix_length == 0
