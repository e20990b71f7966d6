"""Whatever requests come, compute and go: no block has two owners, none is lost, none in use is taken."""

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tgi_router.batching.blocks import Allocation, BlockAllocator
from tgi_router.batching.prefix_cache import PrefixCache

BLOCK_SIZE = 8
BLOCK_COUNT = 24
PAGE = 16

# Beginnings of few texts, often at the edge of a page, so that prompts meet in the tree.
TEXTS = ([0] * 80, [0] * 32 + [1] * 48, [1] * 80)
LENGTHS = (1, 15, 16, 17, 31, 32, 33, 48, 64, 79)
prompts = st.builds(lambda text, length: text[:length], st.sampled_from(TEXTS), st.sampled_from(LENGTHS))


@dataclass
class Live:
    """A request under way: what it will hold, and how much of it is computed."""

    allocation: Allocation
    tokens: list[int]
    computed: int


class KvMemory(RuleBasedStateMachine):
    """The allocator beside a model of the memory: which tokens each block was computed from."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = BlockAllocator(BLOCK_COUNT, BLOCK_SIZE, PrefixCache(BLOCK_SIZE))
        self.live: list[Live] = []
        self.contents: dict[int, tuple[int, ...]] = {}

    @rule(prompt=prompts, new_tokens=st.integers(1, 40), shared=st.booleans())
    def start(self, prompt: list[int], new_tokens: int, shared: bool) -> None:
        tokens = prompt + [7] * new_tokens
        in_use = self.blocks_in_use()
        allocation = self.allocator.allocate(len(tokens) - 1, prompt if shared else None)
        if allocation is None:
            needed = self.allocator.blocks_for(len(tokens) - 1)
            assert needed > self.allocator.capacity - len(in_use)
            return
        self.check_new(allocation, prompt, in_use)
        for block in allocation.owned:
            self.contents[block] = ()
        self.live.append(Live(allocation, tokens, allocation.prefix_length))

    def check_new(self, allocation: Allocation, prompt: list[int], in_use: set[int]) -> None:
        assert allocation.prefix_length < len(prompt)
        assert not allocation.owned & in_use, "a block with two owners"
        for index in range(allocation.prefix_length // BLOCK_SIZE):
            expected = tuple(prompt[: (index + 1) * BLOCK_SIZE])
            assert self.contents[allocation.blocks[index]] == expected, "a prefix that was not computed"

    @precondition(lambda self: self.live)
    @rule(data=st.data(), share=st.booleans())
    def compute(self, data: st.DataObject, share: bool) -> None:
        live = data.draw(st.sampled_from(self.live))
        last = len(live.tokens) - 1
        end = data.draw(st.just(last) | st.integers(live.computed, last))
        for index in range(live.computed // BLOCK_SIZE, end // BLOCK_SIZE):
            block = live.allocation.blocks[index]
            assert block in live.allocation.owned, "a shared block is written to"
            self.contents[block] = tuple(live.tokens[: (index + 1) * BLOCK_SIZE])
        live.computed = end
        if share:
            self.allocator.publish(live.allocation, live.tokens[:end])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        live = data.draw(st.sampled_from(self.live))
        self.live.remove(live)
        self.allocator.free(live.allocation)

    def blocks_in_use(self) -> set[int]:
        return {block for live in self.live for block in live.allocation.blocks} | {
            block for live in self.live for node in live.allocation.path for block in node.blocks
        }

    @invariant()
    def used_and_cached_and_free_make_all(self) -> None:
        allocator = self.allocator
        free = allocator.capacity - allocator.used - allocator.cached
        assert free >= 0
        assert allocator.used == len(self.blocks_in_use())

    @invariant()
    def blocks_of_live_requests_still_hold_their_tokens(self) -> None:
        for live in self.live:
            for index in range(live.computed // BLOCK_SIZE):
                expected = tuple(live.tokens[: (index + 1) * BLOCK_SIZE])
                assert self.contents[live.allocation.blocks[index]] == expected

    def teardown(self) -> None:
        for live in self.live:
            self.allocator.free(live.allocation)
        assert self.allocator.used == 0
        everything = self.allocator.allocate(self.allocator.capacity * BLOCK_SIZE)
        assert everything is not None
        assert sorted(everything.blocks) == list(range(1, BLOCK_COUNT))


KvMemoryTest: Any = KvMemory.TestCase
KvMemoryTest.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
