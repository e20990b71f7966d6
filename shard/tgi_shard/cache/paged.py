"""The KV cache: keys and values of every layer, in blocks of a fixed number of tokens."""

import math
import mmap
import time

import torch
from torch import Tensor

from tgi_shard.models.config import ModelConfig

_BLOCKS_AT_ONCE = 256


def bytes_per_block(config: ModelConfig, block_size: int, dtype: torch.dtype, world_size: int) -> int:
    """Memory that one block takes on one rank: keys and values of all layers, in bytes."""
    values_per_token = 2 * config.num_layers * config.kv_heads_per_rank(world_size) * config.head_dim
    return block_size * values_per_token * dtype.itemsize


class KVCache:
    """The keys and values of all layers on one rank.

    Block 0 belongs to nobody: health checks and warmup write there, and block tables are padded with it.

    Attributes:
        num_blocks: blocks per layer, block 0 included.
        block_size: tokens per block.
        keys: one [num_blocks, block_size, kv_heads, head_dim] tensor per layer.
        values: the same for values.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        world_size: int,
    ) -> None:
        shape = (num_blocks, block_size, config.kv_heads_per_rank(world_size), config.head_dim)
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.keys = [_zeros(shape, dtype, device) for _ in range(config.num_layers)]
        self.values = [_zeros(shape, dtype, device) for _ in range(config.num_layers)]

    def touch(self, seconds: float, memory: int) -> None:
        """Write to the last blocks of memory that the system has only promised, for a bounded time.

        The first write to a page makes a step wait for it, in virtual machines up to a third of a prompt's
        time. The last blocks are those that a router hands out first.

        Args:
            seconds: when to stop at the latest, about.
            memory: how many bytes to write at most.
        """
        tensors = [*self.keys, *self.values]
        if tensors[0].device.type != "cpu":
            return
        deadline = time.monotonic() + seconds
        block_bytes = sum(tensor[0].nbytes for tensor in tensors)
        last = max(0, self.num_blocks - memory // block_bytes)
        for stop in range(self.num_blocks, last, -_BLOCKS_AT_ONCE):
            for tensor in tensors:
                tensor[max(last, stop - _BLOCKS_AT_ONCE) : stop].zero_()
            if time.monotonic() > deadline:
                return

    def tokens(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer seen slot by slot: two [slots, kv_heads, head_dim] views."""
        return self.keys[layer].flatten(0, 1), self.values[layer].flatten(0, 1)

    def write(self, layer: int, key: Tensor, value: Tensor, slots: Tensor) -> None:
        """Store one layer's keys and values ([tokens, kv_heads, head_dim]) at `slots` ([tokens] int64)."""
        keys, values = self.tokens(layer)
        keys.index_copy_(0, slots, key)
        values.index_copy_(0, slots, value)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeroed memory; on a CPU pages of it cost nothing until they are written.

    torch.zeros would write all of it at once: seconds at start for gigabytes that may never be used.
    """
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or size == 0:
        return torch.zeros(shape, dtype=dtype, device=device)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Blocks lie scattered, and each new small page would stop a prompt for a fault.
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
