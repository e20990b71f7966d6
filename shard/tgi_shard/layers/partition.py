"""Which part of each weight a rank holds (tensor parallelism, arXiv 1909.08053)."""

from typing import NamedTuple

from tgi_shard.distributed import World


class Span(NamedTuple):
    """Indices `start` to `stop` (exclusive) out of `total`."""

    start: int
    stop: int
    total: int

    @property
    def size(self) -> int:
        """How many indices it holds."""
        return self.stop - self.start

    def times(self, width: int) -> "Span":
        """The same part where each index stands for `width` of them (heads for their dimensions)."""
        return Span(self.start * width, self.stop * width, self.total * width)


def whole(total: int) -> Span:
    """All of it."""
    return Span(0, total, total)


def split_evenly(total: int, world: World) -> Span:
    """This rank's part of something that the world size divides."""
    size = total // world.size
    return Span(world.rank * size, (world.rank + 1) * size, total)


def split_kv_heads(total: int, world: World) -> Span:
    """This rank's key-value heads: a part; with fewer heads than ranks the one that its queries need."""
    if total >= world.size:
        return split_evenly(total, world)
    head = world.rank * total // world.size
    return Span(head, head + 1, total)


def split_vocabulary(total: int, world: World) -> Span:
    """This rank's rows, all ranks' as many as rank 0's except that the last ones may run out of rows."""
    size = -(-total // world.size)
    return Span(min(world.rank * size, total), min((world.rank + 1) * size, total), total)
