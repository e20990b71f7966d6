"""Paged attention equals its definition, written out query by query in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgi_shard.attention import torch_prefill
from tgi_shard.attention.metadata import AttentionMetadata, pad_block_tables
from tgi_shard.attention.torch_backend import TorchAttention
from tgi_shard.attention.torch_decode import PADDING_ALLOWED, group_by_length
from tgi_shard.cache.paged import KVCache
from tgi_shard.models.registry import read_model_config

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
SCALE = 0.3
BLOCK_SIZE = TorchAttention.block_size
CONFIG = read_model_config(
    {
        "model_type": "llama",
        "hidden_size": HEADS * HEAD_DIM,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 1024,
        "vocab_size": 8,
    }
)


class Texts:
    """Random queries, keys and values of texts, their beginnings in a cache that is NaN everywhere else."""

    def __init__(
        self, shape: list[tuple[int, int]], seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        self.shape = shape
        generator = torch.Generator().manual_seed(seed)
        lengths = [prefix + query for prefix, query in shape]
        self.queries = [self._random(n, HEADS, generator, dtype) for n in lengths]
        self.keys = [self._random(n, KV_HEADS, generator, dtype) for n in lengths]
        self.values = [self._random(n, KV_HEADS, generator, dtype) for n in lengths]
        counts = [-(-length // BLOCK_SIZE) for length in lengths]
        order = torch.randperm(sum(counts), generator=generator) + 1
        self.blocks = [part.tolist() for part in order.split(counts)]
        self.cache = KVCache(
            CONFIG,
            num_blocks=sum(counts) + 1,
            block_size=BLOCK_SIZE,
            dtype=dtype,
            device=torch.device("cpu"),
            world_size=1,
        )
        self.cache.keys[0].fill_(float("nan"))
        self.cache.values[0].fill_(float("nan"))
        for (prefix, _), blocks, keys, values in zip(shape, self.blocks, self.keys, self.values, strict=True):
            positions = torch.arange(prefix)
            slots = torch.tensor(blocks)[positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE
            self.cache.write(0, keys[:prefix], values[:prefix], slots)

    @staticmethod
    def _random(tokens: int, heads: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        return torch.randn(tokens, heads, HEAD_DIM, generator=generator).to(dtype)

    def attend(self, window: int | None) -> Tensor:
        tables = pad_block_tables(self.blocks, torch.device("cpu"))
        prefixes, queries = [prefix for prefix, _ in self.shape], [query for _, query in self.shape]
        metadata = AttentionMetadata.build(prefixes, queries, tables, BLOCK_SIZE)
        plan = TorchAttention().plan(metadata, self.cache)
        query, key, value = (
            torch.cat([part[prefix:] for part, prefix in zip(parts, prefixes, strict=True)])
            for parts in (self.queries, self.keys, self.values)
        )
        return plan.attend(query, key, value, layer=0, window=window, scale=SCALE)

    def expected(self, window: int | None) -> Tensor:
        rows = [
            self._attend_one(text, position, head, window)
            for text, (prefix, query) in enumerate(self.shape)
            for position in range(prefix, prefix + query)
            for head in range(HEADS)
        ]
        return torch.stack(rows).view(-1, HEADS * HEAD_DIM)

    def _attend_one(self, text: int, position: int, head: int, window: int | None) -> Tensor:
        first = 0 if window is None else max(0, position - window + 1)
        kv_head = head // (HEADS // KV_HEADS)
        keys = self.keys[text][first : position + 1, kv_head].double()
        values = self.values[text][first : position + 1, kv_head].double()
        return (keys @ self.queries[text][position, head].double() * SCALE).softmax(0) @ values


shapes = st.lists(
    st.tuples(st.integers(0, 60), st.one_of(st.just(1), st.integers(1, 40))), min_size=1, max_size=5
)
windows = st.one_of(st.none(), st.integers(1, 120))


@given(shapes, windows, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_any_mixture_of_chunks_and_decode_rows_is_attended_by_definition(
    shape: list[tuple[int, int]], window: int | None, seed: int
) -> None:
    texts = Texts(shape, seed)
    torch.testing.assert_close(texts.attend(window).double(), texts.expected(window), atol=1e-5, rtol=1e-5)


@pytest.fixture
def few_queries_per_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_prefill, "QUERIES_PER_MASK", 8)


@pytest.mark.usefixtures("few_queries_per_mask")
@pytest.mark.parametrize("window", [None, 1, 5, 16, 60])
@pytest.mark.parametrize("shape", [(0, 50), (23, 33), (40, 16)])
def test_a_chunk_longer_than_one_mask_is_attended_piece_by_piece(
    shape: tuple[int, int], window: int | None
) -> None:
    texts = Texts([shape, (3, 1)])
    torch.testing.assert_close(texts.attend(window).double(), texts.expected(window), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 20])
def test_bfloat16_is_summed_in_float32(window: int | None) -> None:
    texts = Texts([(300, 1), (0, 40), (50, 20)], dtype=torch.bfloat16)
    attended = texts.attend(window)
    assert attended.dtype is torch.bfloat16
    torch.testing.assert_close(attended.double(), texts.expected(window), atol=1e-2, rtol=2e-2)


def test_rows_of_very_different_lengths_are_attended_by_definition() -> None:
    texts = Texts([(500, 1), (2, 1), (0, 1), (130, 1), (3, 1), (7, 4)])
    torch.testing.assert_close(texts.attend(None).double(), texts.expected(None), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_decode_row_has_the_same_bits_whatever_its_neighbours_are(dtype: torch.dtype) -> None:
    together = Texts([(37, 1), (3, 1), (61, 1), (50, 1)], dtype=dtype)
    rows = together.attend(None)
    for index in range(4):
        alone = Texts([(37, 1), (3, 1), (61, 1), (50, 1)], dtype=dtype)
        alone.shape = alone.shape[index : index + 1]
        for parts in (alone.queries, alone.keys, alone.values, alone.blocks):
            parts[:] = parts[index : index + 1]
        assert torch.equal(alone.attend(None)[0], rows[index])


def test_a_step_writes_its_keys_and_values_where_the_next_step_finds_them() -> None:
    texts = Texts([(5, 12)])
    texts.attend(None)
    later = Texts([(17, 1)])
    later.cache, later.blocks = texts.cache, texts.blocks
    for mine, earlier in ((later.keys, texts.keys), (later.values, texts.values)):
        mine[0][:17] = earlier[0]
    torch.testing.assert_close(later.attend(None).double(), later.expected(None), atol=1e-5, rtol=1e-5)


def test_rows_alike_in_length_stay_together() -> None:
    (group,) = group_by_length(np.array([100, 90, 120]))
    assert group.tolist() == [0, 1, 2]


@given(st.lists(st.integers(1, 5000), max_size=40))
def test_padding_never_doubles_the_keys_to_read(lengths: list[int]) -> None:
    array = np.array(lengths, dtype=np.int64)
    groups = group_by_length(array)
    assert sorted(index for group in groups for index in group.tolist()) == list(range(len(lengths)))
    padded = sum(int(array[group].max()) * len(group) for group in groups)
    assert padded <= max(2, PADDING_ALLOWED) * int(array.sum())
