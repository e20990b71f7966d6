"""Memory for weights that are read in full at every step."""

import mmap

import torch
from torch import Tensor

HUGE_PAGE = 2 * 2**20


def empty_weights(count: int, dtype: torch.dtype) -> Tensor:
    """A tensor of `count` values in huge pages, where the system has any to give.

    A matrix that is read front to back crosses a small page every 4 KiB, and the processor stops fetching
    ahead at each border. Small matrices share the allocator's pages: huge ones of their own would waste them.
    """
    size = count * dtype.itemsize
    if size < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(count, dtype=dtype)
    pages = mmap.mmap(-1, -(-size // HUGE_PAGE) * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype, count=count)
