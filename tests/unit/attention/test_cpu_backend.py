"""Attention by the CPU kernels equals its definition, and each token's result is the same to the bit however
its text was cut into steps."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgi_shard.attention.cpu_backend import CpuAttention
from tgi_shard.attention.metadata import AttentionMetadata, pad_block_tables
from tgi_shard.cache.paged import KVCache
from tgi_shard.kernels.library import CpuKernels
from tgi_shard.models.registry import read_model_config
from unit.kernels.variants import computing_threads

pytestmark = pytest.mark.usefixtures("one_thread")

BLOCK_SIZE = CpuAttention.block_size
NAN = math.nan
ROUNDING = 2.0**-8
"""The most that rounding to bfloat16 changes a number, as a part of it."""


@dataclass(frozen=True)
class Shape:
    """A layer's heads."""

    heads: int
    kv_heads: int
    head_dim: int

    @property
    def scale(self) -> float:
        return self.head_dim**-0.5


SHAPES = [
    Shape(1, 1, 32),
    Shape(4, 2, 64),
    Shape(6, 2, 96),
    Shape(14, 2, 64),
    Shape(16, 1, 32),
    Shape(3, 3, 128),
    Shape(5, 1, 256),
]
shapes = st.sampled_from(SHAPES)
windows = st.one_of(st.none(), st.integers(1, 200), st.sampled_from([31, 32, 33, 128]))
borders = st.sampled_from([1, 2, 15, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130, 256, 257])
lengths = st.one_of(st.integers(1, 300), borders)


class Text:
    """Random queries, keys and values."""

    def __init__(self, shape: Shape, length: int, seed: int = 0, scale: float = 1.0) -> None:
        self.shape, self.length = shape, length
        generator = torch.Generator().manual_seed(seed)
        # Queries, keys and values lie side by side, as the fused projection leaves them.
        total = shape.heads + 2 * shape.kv_heads
        qkv = torch.randn(length, total, shape.head_dim, generator=generator).bfloat16()
        qkv[:, : shape.heads] *= scale
        self.parts = qkv.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)

    def weights(self, window: int | None) -> Tensor:
        """[heads, length, length] in float64."""
        query, key, _ = (part.double().transpose(0, 1) for part in self.parts)
        scores = query @ self._repeat(key).transpose(1, 2) * self.shape.scale
        positions = torch.arange(self.length)
        back = positions[:, None] - positions
        unseen = (back < 0) if window is None else (back < 0) | (back >= window)
        return scores.masked_fill(unseen, -math.inf).softmax(-1)

    def attended(self, window: int | None) -> tuple[Tensor, Tensor]:
        """[length, heads * head_dim] in float64, and the same with values that all count as positive."""
        weights = self.weights(window)
        values = self._repeat(self.parts[2].double().transpose(0, 1))
        signed, positive = ((weights @ part).transpose(0, 1).flatten(1) for part in (values, values.abs()))
        return signed, positive

    def _repeat(self, kv: Tensor) -> Tensor:
        return kv.repeat_interleave(self.shape.heads // self.shape.kv_heads, dim=0)


@dataclass
class Running:
    """A text whose beginning is in the cache, and what its tokens were answered."""

    text: Text
    blocks: list[int]
    done: int = 0
    attended: list[Tensor] = field(default_factory=list)


class Server:
    """Attends steps over scattered blocks of a cache in which others left NaN."""

    def __init__(self, kernels: CpuKernels, shape: Shape, num_blocks: int = 64) -> None:
        self._shape = shape
        self._attention = CpuAttention(kernels)
        config = read_model_config(
            {
                "model_type": "llama",
                "hidden_size": 64,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": shape.heads,
                "num_key_value_heads": shape.kv_heads,
                "head_dim": shape.head_dim,
                "max_position_embeddings": 1024,
                "vocab_size": 8,
            }
        )
        self.cache = KVCache(
            config,
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            dtype=torch.bfloat16,
            device=torch.device("cpu"),
            world_size=1,
        )
        self.cache.keys[0].fill_(NAN)
        self.cache.values[0].fill_(NAN)
        order = torch.randperm(num_blocks - 1, generator=torch.Generator().manual_seed(3)) + 1
        self._free: list[int] = order.tolist()

    def open(self, text: Text, shared: Sequence[int] = ()) -> Running:
        """Place a text behind full blocks that hold its beginning already."""
        own = -(-text.length // BLOCK_SIZE) - len(shared)
        return Running(text, [*shared, *(self._free.pop() for _ in range(own))], len(shared) * BLOCK_SIZE)

    def close(self, running: Running) -> None:
        """Give the blocks back, with NaN in all of them."""
        for tensor in (self.cache.keys[0], self.cache.values[0]):
            tensor[running.blocks] = NAN
        self._free += running.blocks

    def step(self, work: Sequence[tuple[Running, int]], window: int | None) -> None:
        """Attend the next tokens of some texts, so many of each."""
        tables = pad_block_tables([running.blocks for running, _ in work], torch.device("cpu"))
        counts = [count for _, count in work]
        metadata = AttentionMetadata.build([running.done for running, _ in work], counts, tables, BLOCK_SIZE)
        new = [[part[r.done : r.done + n] for part in r.text.parts] for r, n in work]
        qkv = torch.cat([torch.cat(parts, dim=1) for parts in new])
        kv_heads = self._shape.kv_heads
        query, key, value = qkv.split([self._shape.heads, kv_heads, kv_heads], dim=1)
        attended = self._attention.plan(metadata, self.cache).attend(
            query, key, value, layer=0, window=window, scale=self._shape.scale
        )
        for (running, count), rows in zip(work, attended.split(counts), strict=True):
            running.attended.append(rows)
            running.done += count

    def attend(self, text: Text, window: int | None = None, chunks: Sequence[int] | None = None) -> Tensor:
        """A whole text on its own, in chunks of some lengths."""
        running = self.open(text)
        for chunk in chunks or [text.length]:
            self.step([(running, chunk)], window)
        self.close(running)
        return torch.cat(running.attended)


def assert_by_definition(rows: Tensor, text: Text, window: int | None = None, start: int = 0) -> None:
    """Within the roundings of the weights, which their sum shares, and of the result."""
    exact, positive = (part[start:] for part in text.attended(window))
    assert ((rows.double() - exact).abs() <= 1.05 * ROUNDING * (2 * exact.abs() + positive) + 1e-5).all()


def cut(length: int, cuts: Sequence[float]) -> list[int]:
    """Lengths of the chunks that a text falls into when cut at some parts of it."""
    places = sorted({0, length, *(int(part * length) for part in cuts)})
    return [stop - start for start, stop in itertools.pairwise(places)]


cut_places = st.lists(st.floats(0, 0.999), max_size=5)


@given(shapes, lengths, windows, cut_places)
@settings(max_examples=15, deadline=None)
def test_a_text_in_any_chunks_is_attended_by_definition(
    any_kernels: CpuKernels, shape: Shape, length: int, window: int | None, cuts: list[float]
) -> None:
    text = Text(shape, length)
    assert_by_definition(Server(any_kernels, shape).attend(text, window, cut(length, cuts)), text, window)


@given(shapes, lengths, windows, cut_places)
@settings(max_examples=15, deadline=None)
def test_chunks_give_the_bits_of_the_whole(
    any_kernels: CpuKernels, shape: Shape, length: int, window: int | None, cuts: list[float]
) -> None:
    text, server = Text(shape, length), Server(any_kernels, shape)
    assert torch.equal(server.attend(text, window, cut(length, cuts)), server.attend(text, window))


@pytest.mark.parametrize("window", [None, 1, 20, 32, 100])
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[4]], ids=str)
def test_decoding_token_by_token_gives_the_bits_of_the_whole(
    any_kernels: CpuKernels, shape: Shape, window: int | None
) -> None:
    text, server = Text(shape, 140), Server(any_kernels, shape)
    assert torch.equal(server.attend(text, window, [1] * 140), server.attend(text, window))


@given(shapes, st.lists(st.tuples(lengths, cut_places), min_size=1, max_size=5), windows)
@settings(max_examples=15, deadline=None)
def test_a_token_has_the_same_bits_alone_and_beside_any_others(
    any_kernels: CpuKernels, shape: Shape, texts: list[tuple[int, list[float]]], window: int | None
) -> None:
    server = Server(any_kernels, shape)
    running = [server.open(Text(shape, length, seed=seed)) for seed, (length, _) in enumerate(texts)]
    chunks = [cut(length, cuts) for length, cuts in texts]
    while any(chunks):
        step = [(own, left.pop(0)) for own, left in zip(running, chunks, strict=True) if left]
        server.step(step, window)
    for own in running:
        alone = Server(any_kernels, shape).attend(own.text, window)
        assert torch.equal(torch.cat(own.attended), alone)
        assert_by_definition(alone, own.text, window)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_any_number_of_threads_gives_the_same_bits(any_kernels: CpuKernels, threads: int) -> None:
    texts = [Text(SHAPES[1], length, seed=length) for length in (70, 1, 200, 33)]
    results = []
    for count in (1, threads):
        server = Server(any_kernels, SHAPES[1])
        running = [server.open(text) for text in texts]
        with computing_threads(count):
            server.step([(own, own.text.length) for own in running], None)
        results.append(torch.cat([rows for own in running for rows in own.attended]))
    assert torch.equal(*results)


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_a_shared_prefix_is_read_where_its_owner_left_it(
    any_kernels: CpuKernels, blocks: int, window: int | None
) -> None:
    shape = SHAPES[1]
    text, server = Text(shape, 200), Server(any_kernels, shape)
    whole = server.attend(text, window)
    owner = server.open(text)
    server.step([(owner, 200)], window)
    follower = server.open(text, shared=owner.blocks[:blocks])
    start = follower.done
    server.step([(server.open(Text(shape, 50, seed=9)), 50), (follower, 3)], window)
    server.step([(follower, text.length - follower.done)], window)
    assert torch.equal(torch.cat(follower.attended), whole[start:])


@pytest.mark.parametrize("left_over", [NAN, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("length", [1, 2, 31, 33, 64, 90, 129])
def test_what_others_left_in_the_cache_changes_nothing(
    any_kernels: CpuKernels, length: int, left_over: float
) -> None:
    text = Text(SHAPES[1], length)
    clean, used = Server(any_kernels, SHAPES[1]), Server(any_kernels, SHAPES[1])
    for tensors, value in ((clean.cache, 0.0), (used.cache, left_over)):
        tensors.keys[0].fill_(value)
        tensors.values[0].fill_(value)
    for window in (None, 7):
        expected = clean.attend(text, window)
        assert torch.equal(used.attend(text, window), expected)
        assert torch.equal(used.attend(text, window, [1] * length), expected)


def test_what_is_not_a_number_stays_in_its_text(any_kernels: CpuKernels) -> None:
    shape = SHAPES[1]
    server = Server(any_kernels, shape)
    good, broken = Text(shape, 70), Text(shape, 70, seed=1)
    for part in broken.parts:
        part[10] = NAN
    running = [server.open(broken), server.open(good), server.open(broken)]
    for chunk in (40, 29, 1):
        server.step([(own, chunk) for own in running], None)
    assert torch.equal(torch.cat(running[1].attended), Server(any_kernels, shape).attend(good))
    assert torch.cat(running[0].attended)[10:].isnan().all()


@pytest.mark.parametrize("scale", [0.0, 1e-3, 30.0])
def test_scores_of_any_size_are_attended_by_definition(any_kernels: CpuKernels, scale: float) -> None:
    text = Text(SHAPES[1], 150, scale=scale)
    assert_by_definition(Server(any_kernels, SHAPES[1]).attend(text), text)


@pytest.mark.parametrize("scale", [1e4, 1e6, 1e8, 1e10, 1e20])
def test_scores_far_apart_choose_one_value(any_kernels: CpuKernels, scale: float) -> None:
    text = Text(SHAPES[1], 150, scale=scale)
    rows = Server(any_kernels, SHAPES[1]).attend(text).double()
    exact, _ = text.attended(None)
    clear = text.weights(None).amax(-1).transpose(0, 1).repeat_interleave(SHAPES[1].head_dim, dim=1) > 0.9999
    assert clear.double().mean() > 0.9
    assert ((rows - exact).abs() <= 0.02 * exact.abs() + 0.02)[clear].all()


def test_layers_keep_their_own_keys_and_windows_in_one_step(kernels: CpuKernels) -> None:
    shape = SHAPES[1]
    texts = [Text(shape, 60, seed=seed) for seed in range(2)]
    cache = Server(kernels, shape).cache
    cache.keys.append(torch.full_like(cache.keys[0], NAN))
    cache.values.append(torch.full_like(cache.values[0], NAN))
    tables = pad_block_tables([[5, 9]], torch.device("cpu"))
    plan = CpuAttention(kernels).plan(AttentionMetadata.build([0], [60], tables, BLOCK_SIZE), cache)
    for layer, (text, window) in enumerate(zip(texts, (None, 10), strict=True)):
        rows = plan.attend(*text.parts, layer=layer, window=window, scale=shape.scale)
        assert torch.equal(rows, Server(kernels, shape).attend(text, window))


@pytest.mark.parametrize(
    ("head_dim", "fits"), [(32, True), (96, True), (256, True), (48, False), (288, False)]
)
def test_heads_that_fit_the_kernels_vectors_are_supported(head_dim: int, fits: bool) -> None:
    assert CpuAttention.supports(head_dim) is fits
