"""The radix tree: what matches, what is added, and in which order pages are forgotten."""

import pytest

from tgi_router.batching.prefix_cache import Node, PrefixCache

PAGE = 16


def pages(*letters: str) -> list[int]:
    """Token ids: a page of equal tokens for each letter."""
    return [ord(letter) for letter in "".join(letters) for _ in range(PAGE)]


def insert(cache: PrefixCache, letters: str, first_block: int) -> list[int]:
    """Add a path and let go of it; the blocks that the tree took over."""
    path: list[Node] = []
    blocks = list(range(first_block, first_block + len(letters)))
    taken = cache.extend(path, pages(letters), blocks)
    cache.release(path)
    return taken


def match(cache: PrefixCache, letters: str) -> list[int]:
    """The blocks of the known beginning of a path."""
    return [block for node in cache.match(pages(letters), 99) for block in node.blocks]


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(PAGE)


def test_inserting_takes_over_what_is_new(cache: PrefixCache) -> None:
    # TGI's vector, a page for each of its tokens; it answers how many were known, here it is which were not.
    assert insert(cache, "012", 10) == [10, 11, 12]
    assert insert(cache, "012", 20) == []
    assert insert(cache, "01234", 30) == [33, 34]
    assert insert(cache, "0123567", 40) == [44, 45, 46]


def test_the_longest_known_beginning_matches(cache: PrefixCache) -> None:
    insert(cache, "abcd", 10)
    insert(cache, "abxy", 20)

    assert match(cache, "abcd") == [10, 11, 12, 13]
    assert match(cache, "abxyz") == [10, 11, 22, 23]
    assert match(cache, "abq") == [10, 11]
    assert match(cache, "b") == []
    assert match(cache, "") == []


def test_a_page_that_differs_in_one_token_does_not_match(cache: PrefixCache) -> None:
    insert(cache, "ab", 10)
    ids = pages("ab")
    ids[PAGE + 3] += 1

    assert len(cache.match(ids, 99)) == 1


def test_pages_that_are_not_full_are_left_out(cache: PrefixCache) -> None:
    path: list[Node] = []
    taken = cache.extend(path, pages("ab")[:-1], [10, 11])

    assert taken == [10]
    assert len(cache.match(pages("ab")[: PAGE + 5], 99)) == 1


def test_large_token_ids_are_told_apart(cache: PrefixCache) -> None:
    path: list[Node] = []
    cache.extend(path, [2**31 + 7] * PAGE, [10])

    assert len(cache.match([2**31 + 7] * PAGE, 99)) == 1
    assert cache.match([7] * PAGE, 99) == []


def test_a_path_in_use_is_never_forgotten(cache: PrefixCache) -> None:
    insert(cache, "abc", 10)
    held = cache.match(pages("ab"), 99)
    cache.hold(held)

    assert cache.evict(99) == [12]
    assert match(cache, "abc") == [10, 11]
    cache.release(held)
    assert cache.evict(99) == [11, 10]


def test_the_least_recently_used_leaf_goes_first(cache: PrefixCache) -> None:
    insert(cache, "ab", 10)
    insert(cache, "cd", 20)
    used_again = cache.match(pages("ab"), 99)
    cache.hold(used_again)
    cache.release(used_again)

    assert cache.evict(1) == [21]
    assert cache.evict(1) == [20]
    assert cache.evict(2) == [11, 10]


def test_a_common_beginning_outlives_its_branches(cache: PrefixCache) -> None:
    insert(cache, "ab", 10)
    insert(cache, "ac", 20)

    assert cache.evict(2) == [11, 21]
    assert match(cache, "a") == [10]


def test_only_as_much_is_forgotten_as_is_asked_for(cache: PrefixCache) -> None:
    insert(cache, "abcd", 10)

    assert cache.evict(1) == [13]
    assert cache.unused_blocks == 3
    assert cache.evict(0) == []


def test_small_blocks_are_forgotten_a_page_at_a_time() -> None:
    cache = PrefixCache(4)
    path: list[Node] = []
    cache.extend(path, pages("a"), [1, 2, 3, 4])
    cache.release(path)

    assert cache.unused_blocks == 4
    assert cache.evict(1) == [1, 2, 3, 4]


def test_blocks_larger_than_a_page_are_pages() -> None:
    cache = PrefixCache(64)

    assert (cache.page_tokens, cache.page_blocks) == (64, 1)


def test_clearing_forgets_everything(cache: PrefixCache) -> None:
    insert(cache, "ab", 10)

    cache.clear()

    assert (cache.unused_blocks, match(cache, "ab"), cache.evict(9)) == (0, [], [])
