"""The cache takes the memory it announces, and a block keeps what is written to it."""

import pytest
import torch

from tgi_shard.cache.paged import KVCache, bytes_per_block
from tgi_shard.models.config import ModelConfig
from tgi_shard.models.registry import read_model_config

CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "vocab_size": 97,
}


def make_cache(
    config: ModelConfig, world_size: int = 1, dtype: torch.dtype = torch.bfloat16, num_blocks: int = 5
) -> KVCache:
    return KVCache(
        config,
        num_blocks=num_blocks,
        block_size=16,
        dtype=dtype,
        device=torch.device("cpu"),
        world_size=world_size,
    )


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cache_takes_the_bytes_that_were_announced(world_size: int, dtype: torch.dtype) -> None:
    config = read_model_config(CONFIG)
    cache = make_cache(config, world_size, dtype)
    taken = sum(tensor.untyped_storage().nbytes() for tensor in (*cache.keys, *cache.values))
    assert taken == 5 * bytes_per_block(config, 16, dtype, world_size)


def test_what_is_written_to_a_slot_is_found_in_its_block() -> None:
    cache = make_cache(read_model_config(CONFIG), 1, torch.float32)
    key, value = torch.randn(2, 2, 8), torch.randn(2, 2, 8)
    cache.write(1, key, value, torch.tensor([3 * 16 + 5, 16]))
    assert torch.equal(cache.keys[1][3, 5], key[0])
    assert torch.equal(cache.values[1][1, 0], value[1])
    assert cache.keys[1].count_nonzero() == key.numel()
    assert not cache.keys[0].any()
    assert not cache.keys[2].any()


def test_touching_writes_zeros_to_the_last_blocks_and_no_others() -> None:
    cache = make_cache(read_model_config(CONFIG), num_blocks=600)
    for tensor in (*cache.keys, *cache.values):
        tensor.fill_(1)
    block_bytes = sum(tensor[0].nbytes for tensor in (*cache.keys, *cache.values))
    cache.touch(seconds=60, memory=300 * block_bytes)
    for tensor in (*cache.keys, *cache.values):
        assert tensor[:300].eq(1).all()
        assert tensor[300:].eq(0).all()


def test_touching_ends_with_its_time() -> None:
    cache = make_cache(read_model_config(CONFIG), num_blocks=600)
    for tensor in (*cache.keys, *cache.values):
        tensor.fill_(1)
    cache.touch(seconds=-1, memory=2**40)
    assert cache.keys[0][0].eq(1).all()
