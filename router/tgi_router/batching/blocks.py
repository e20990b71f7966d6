"""KV blocks and who holds them: reserved before a request is sent, freed when it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tgi_router.batching.prefix_cache import Node, PrefixCache


@dataclass(slots=True)
class Allocation:
    """The blocks of one request.

    Attributes:
        blocks: block ids in the order of the request's tokens, shared ones first.
        tokens: tokens there is room for, counted without the rest of the last block.
        prefix_length: prompt tokens whose keys and values the blocks already hold.
        path: pages of the prefix cache that the request runs through.
        owned: the blocks that are this request's alone.
    """

    blocks: list[int]
    tokens: int
    prefix_length: int = 0
    path: list[Node] = field(default_factory=list)
    owned: set[int] = field(default_factory=set)


class BlockAllocator:
    """Gives out the blocks of a KV cache, and shares those that hold the same beginning.

    Block 0 is never given out: shards write there what nobody reads (health checks, padding).

    Args:
        block_count: blocks in the KV cache, block 0 included.
        block_size: tokens in a block.
        prefix_cache: what is shared; None shares nothing.
    """

    def __init__(self, block_count: int, block_size: int, prefix_cache: PrefixCache | None = None) -> None:
        self.block_size = block_size
        self._capacity = max(0, block_count - 1)
        self._prefix_cache = prefix_cache
        self._free: list[int] = []
        self.reset()

    @property
    def capacity(self) -> int:
        """Blocks that requests may use."""
        return self._capacity

    @property
    def cached(self) -> int:
        """Blocks that no live request uses, kept for their contents."""
        return self._prefix_cache.unused_blocks if self._prefix_cache else 0

    @property
    def used(self) -> int:
        """Blocks that live requests use, shared ones counted once."""
        return self._capacity - len(self._free) - self.cached

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold a number of tokens."""
        return -(-tokens // self.block_size)

    def allocate(self, tokens: int, prompt: Sequence[int] | None = None) -> Allocation | None:
        """Reserve room for a request.

        Args:
            tokens: prompt and new tokens to hold.
            prompt: the prompt's ids, to look for a beginning already computed. At least the last one is left
                to compute, since its logits are needed, and a shared block is never written to again: so only
                whole pages before the last token match.

        Returns:
            The blocks, or None when too few are free at present; then nothing has changed.
        """
        cache = self._prefix_cache
        path: list[Node] = []
        if cache is not None and prompt is not None:
            path = cache.match(prompt, (len(prompt) - 1) // cache.page_tokens)
            cache.hold(path)
        shared = [block for node in path for block in node.blocks]
        needed = self.blocks_for(tokens) - len(shared)
        if needed > len(self._free) + self.cached:
            if cache is not None:
                cache.release(path)
            return None
        own = self._take(needed)
        return Allocation(
            blocks=shared + own,
            tokens=tokens,
            prefix_length=len(shared) * self.block_size,
            path=path,
            owned=set(own),
        )

    def publish(self, allocation: Allocation, ids: Sequence[int]) -> None:
        """Share the whole pages of a request's tokens.

        Args:
            allocation: the request's blocks.
            ids: its tokens from the first one on; their keys and values must have been computed.
        """
        if self._prefix_cache is not None:
            shared = self._prefix_cache.extend(allocation.path, ids, allocation.blocks)
            allocation.owned.difference_update(shared)

    def free(self, allocation: Allocation) -> None:
        """Give up a request's blocks. Shared ones stay for those that use them, or might."""
        if self._prefix_cache is not None:
            self._prefix_cache.release(allocation.path)
        self._free.extend(sorted(allocation.owned))
        allocation.path = []
        allocation.owned = set()

    def reset(self) -> None:
        """Forget all reservations and all contents."""
        self._free = list(range(1, self._capacity + 1))
        if self._prefix_cache is not None:
            self._prefix_cache.clear()

    def _take(self, count: int) -> list[int]:
        missing = count - len(self._free)
        if missing > 0 and self._prefix_cache is not None:
            self._free.extend(self._prefix_cache.evict(missing))
        start = len(self._free) - count
        taken = self._free[start:]
        del self._free[start:]
        return taken
