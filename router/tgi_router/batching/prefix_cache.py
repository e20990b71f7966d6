"""Which KV blocks hold the keys and values of which tokens: a radix tree over token ids in whole pages.

A page is the tree's grain: one block, or several where blocks are smaller than 16 tokens. A node is a page
under the pages before it, so the path from the root to a node spells a prompt's beginning, and two prompts
share the path they have in common. Ideas: TGI's radix.rs (the tree), vLLM's block_pool.py (eviction order).
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence

PAGE_TOKENS = 16


class Node:
    """One page of tokens and the blocks that hold it.

    Attributes:
        key: the page's token ids, as bytes.
        parent: the page before it; None for the root.
        children: the pages known to follow it, by their keys.
        blocks: the blocks that hold the page, in order.
        users: live requests whose tokens run through this page. A user of a page uses all pages before it.
    """

    __slots__ = ("blocks", "children", "key", "parent", "users")

    def __init__(self, key: bytes, parent: "Node | None", blocks: Sequence[int]) -> None:
        self.key = key
        self.parent = parent
        self.blocks = blocks
        self.children: dict[bytes, Node] = {}
        self.users = 0


class PrefixCache:
    """Computed pages, shared by the requests that run through them and kept until their blocks are needed.

    Pages without users wait in the order in which they lost their last one, each path from its end backwards.
    As a user holds whole paths, a page never waits before one that follows it in the tree: the first in line
    is always a leaf, and the least recently used one.

    Args:
        block_size: tokens in a block.
    """

    def __init__(self, block_size: int) -> None:
        self.page_blocks = max(1, PAGE_TOKENS // block_size)
        self.page_tokens = self.page_blocks * block_size
        self._root = Node(b"", None, ())
        self._unused: OrderedDict[Node, None] = OrderedDict()

    def clear(self) -> None:
        """Forget every page."""
        self._root = Node(b"", None, ())
        self._unused.clear()

    @property
    def unused_blocks(self) -> int:
        """Blocks that no live request uses: they can be taken."""
        return len(self._unused) * self.page_blocks

    def match(self, ids: Sequence[int], max_pages: int) -> list[Node]:
        """The longest known path of pages that `ids` begin with, at most `max_pages`; not yet held."""
        path: list[Node] = []
        node = self._root
        for key in self._keys(ids, 0, max_pages):
            child = node.children.get(key)
            if child is None:
                break
            path.append(child)
            node = child
        return path

    def hold(self, path: Sequence[Node]) -> None:
        """Become a user of every page of a path that starts at the root."""
        for node in path:
            if node.users == 0:
                del self._unused[node]
            node.users += 1

    def release(self, path: Sequence[Node]) -> None:
        """Stop being a user of every page of a path that was held."""
        for node in reversed(path):
            node.users -= 1
            if node.users == 0:
                self._unused[node] = None

    def extend(self, path: list[Node], ids: Sequence[int], blocks: Sequence[int]) -> list[int]:
        """Make a held path as long as `ids` have whole pages, holding what is added.

        Pages that are new to the tree take over the blocks that hold them. Pages that another request
        computed meanwhile stay as they are, and the blocks with the same contents stay with the caller.

        Args:
            path: the path held so far; grows.
            ids: token ids from the first one on, all computed.
            blocks: the caller's block for every part of `ids`, in order.

        Returns:
            The blocks that belong to the tree from now on.
        """
        taken: list[int] = []
        node = path[-1] if path else self._root
        for key in self._keys(ids, len(path), len(ids) // self.page_tokens):
            child = node.children.get(key)
            if child is None:
                start = len(path) * self.page_blocks
                child = Node(key, node, tuple(blocks[start : start + self.page_blocks]))
                node.children[key] = child
                taken.extend(child.blocks)
            elif child.users == 0:
                del self._unused[child]
            child.users += 1
            path.append(child)
            node = child
        return taken

    def evict(self, count: int) -> list[int]:
        """Forget the least recently used pages until `count` blocks are free, or no unused page is left.

        Returns:
            The blocks that became free.
        """
        freed: list[int] = []
        while len(freed) < count and self._unused:
            node, _ = self._unused.popitem(last=False)
            assert node.parent is not None
            del node.parent.children[node.key]
            freed.extend(node.blocks)
        return freed

    def _keys(self, ids: Sequence[int], first: int, end: int) -> list[bytes]:
        """The keys of pages `first` to `end`, the latter excluded."""
        tokens = self.page_tokens
        packed = array("I", ids[first * tokens : end * tokens]).tobytes()
        width = tokens * array("I").itemsize
        return [packed[at : at + width] for at in range(0, len(packed), width)]
