"""How many KV blocks fit, and the cache made of them."""

from dataclasses import dataclass

import torch

from tgi_shard.cache.paged import KVCache, bytes_per_block
from tgi_shard.models.config import ModelConfig
from tgi_shard.platform import Platform

# More KV tokens than this serve no batch, and the router keeps an entry for each block.
MAX_KV_TOKENS = 2**20


@dataclass(frozen=True, slots=True)
class CacheMaker:
    """Makes KV caches of one shape.

    Attributes:
        memory_fraction: part of the memory that the user allows; None for what suits the device.
    """

    config: ModelConfig
    block_size: int
    dtype: torch.dtype
    platform: Platform
    world_size: int
    memory_fraction: float | None

    def count_blocks(self) -> int:
        """Blocks that fit into the memory that is free now, within MAX_KV_TOKENS; block 0 included."""
        block_bytes = bytes_per_block(self.config, self.block_size, self.dtype, self.world_size)
        budget = self.platform.kv_cache_budget(self.memory_fraction, self.world_size)
        return min(budget // block_bytes, MAX_KV_TOKENS // self.block_size)

    def make(self, num_blocks: int) -> KVCache:
        """Allocate a cache of `num_blocks`."""
        return KVCache(
            self.config,
            num_blocks=num_blocks,
            block_size=self.block_size,
            dtype=self.dtype,
            device=self.platform.device,
            world_size=self.world_size,
        )
