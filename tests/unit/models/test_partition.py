"""The parts of all ranks together are the whole, and no rank reads more than its part."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgi_shard.backend import torch_backend
from tgi_shard.distributed import Collective, World
from tgi_shard.layers.partition import Span, split_evenly, split_kv_heads, split_vocabulary
from tgi_shard.models.load import load_model
from tgi_shard.models.registry import read_model_config
from tgi_shard.platform import CpuPlatform
from unit.models.reference import checkpoint, config_json, random_model
from unit.models.serving import MemoryWeights


def ranks(size: int) -> list[World]:
    return [World(rank, size) for rank in range(size)]


def indices(spans: list[Span]) -> list[int]:
    return [index for span in spans for index in range(span.start, span.stop)]


@given(st.integers(1, 8), st.integers(1, 40))
def test_even_parts_cover_everything_once(size: int, part: int) -> None:
    assert indices([split_evenly(part * size, world) for world in ranks(size)]) == list(range(part * size))


@given(st.integers(1, 8), st.integers(1, 200))
def test_vocabulary_parts_cover_everything_once_and_none_is_longer_than_the_first(
    size: int, total: int
) -> None:
    spans = [split_vocabulary(total, world) for world in ranks(size)]
    assert indices(spans) == list(range(total))
    assert max(span.size for span in spans) == spans[0].size


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]))
@settings(max_examples=40)
def test_a_rank_has_the_key_value_head_of_each_of_its_query_heads(
    size: int, kv_heads: int, group: int
) -> None:
    heads = max(kv_heads * group, size)
    for world in ranks(size):
        queries, own = split_evenly(heads, world), split_kv_heads(kv_heads, world)
        per_own_head = queries.size // own.size
        for local in range(queries.size):
            wanted = (queries.start + local) * kv_heads // heads
            assert own.start + local // per_own_head == wanted


def test_a_span_of_heads_becomes_a_span_of_their_dimensions() -> None:
    assert Span(2, 4, 8).times(16) == Span(32, 64, 128)


def test_a_rank_reads_only_its_part_of_what_is_split() -> None:
    model = random_model("qwen2", tie_word_embeddings=True)
    weights = MemoryWeights(checkpoint(model))
    platform = CpuPlatform()
    rank = Collective(World(1, 2))
    load_model(
        read_model_config(config_json(model)),
        weights,
        platform,
        rank,
        torch.float32,
        torch_backend(torch.float32),
        128,
    )
    layer = "model.layers.0."
    assert [read for read in weights.reads if read[0].startswith((layer, "model.embed"))] == [
        ("model.embed_tokens.weight", 0, 49, 97),
        (layer + "self_attn.q_proj.weight", 0, 16, 32),
        (layer + "self_attn.k_proj.weight", 0, 8, 16),
        (layer + "self_attn.v_proj.weight", 0, 8, 16),
        (layer + "self_attn.q_proj.bias", 0, 16, 32),
        (layer + "self_attn.k_proj.bias", 0, 8, 16),
        (layer + "self_attn.v_proj.bias", 0, 8, 16),
        (layer + "self_attn.o_proj.weight", 1, 16, 32),
        (layer + "mlp.gate_proj.weight", 0, 24, 48),
        (layer + "mlp.up_proj.weight", 0, 24, 48),
        (layer + "mlp.down_proj.weight", 1, 24, 48),
    ]
