"""A checkpoint loaded as a shard loads it, and run without a server."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.quality.weights import WeightMeter
from tgi_common.choices import Quantization
from tgi_common.model_files import read_config
from tgi_shard.attention.metadata import AttentionMetadata, pad_block_tables
from tgi_shard.backend import select_backend
from tgi_shard.cache.paged import KVCache
from tgi_shard.distributed import Collective
from tgi_shard.models.load import load_model
from tgi_shard.models.registry import read_model_config
from tgi_shard.platform import CpuPlatform
from tgi_shard.quantization.schemes import choose_scheme
from tgi_shard.weights.safetensors_files import open_weights

_AT_ONCE = 48
"""Texts that are continued together."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to load and run a checkpoint.

    Attributes:
        dtype: what it computes in.
        quantization: how it keeps the weights; None for in that type.
        kernels: where compiled kernels are kept; None to compute by torch alone.
    """

    name: str
    dtype: torch.dtype
    quantization: Quantization | None
    kernels: Path | None


class LoadedModel:
    """One variant of a checkpoint.

    Attributes:
        meter: what became of its weights.
    """

    def __init__(self, checkpoint: Path, variant: Variant, longest_text: int) -> None:
        platform = CpuPlatform()
        config = read_model_config(read_config(checkpoint))
        backend = select_backend(platform.device, variant.dtype, config.head_dim, variant.kernels)
        weights = open_weights(checkpoint, platform.device, variant.dtype)
        self.meter = WeightMeter()
        scheme = self.meter.watch(choose_scheme(variant.quantization, platform.device))
        self._model = load_model(
            config, weights, platform, Collective(), variant.dtype, backend, longest_text, scheme
        )
        self._block_size = backend.attention.block_size
        self._blocks_each = -(-longest_text // self._block_size)
        self._cache = KVCache(
            config,
            num_blocks=1 + _AT_ONCE * self._blocks_each,
            block_size=self._block_size,
            dtype=variant.dtype,
            device=platform.device,
            world_size=1,
        )

    def logits(self, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
        """What it expects at each token of an answer that it is told: [answer, vocabulary] float32."""
        hidden = self._step([0], [[*prompt, *answer[:-1]]], [0])
        return self._model.logits(hidden[len(prompt) - 1 :]).float()

    def generate(
        self, prompts: Sequence[Sequence[int]], tokens: int, end_ids: Collection[int]
    ) -> list[list[int]]:
        """Continue each prompt greedily by so many tokens, or up to one of `end_ids`, which is kept."""
        texts: list[list[int]] = []
        for start in range(0, len(prompts), _AT_ONCE):
            texts += self._generate_together(prompts[start : start + _AT_ONCE], tokens, end_ids)
        return texts

    def _generate_together(
        self, prompts: Sequence[Sequence[int]], tokens: int, end_ids: Collection[int]
    ) -> list[list[int]]:
        texts: list[list[int]] = [[] for _ in prompts]
        rows = list(range(len(prompts)))
        added = [list(prompt) for prompt in prompts]
        lengths = [0] * len(prompts)
        while rows:
            hidden = self._step(rows, added, [lengths[row] for row in rows])
            last = torch.tensor([len(each) for each in added]).cumsum(0) - 1
            chosen = self._model.logits(hidden[last]).argmax(-1).tolist()
            for row, new, token in zip(rows, added, chosen, strict=True):
                lengths[row] += len(new)
                texts[row].append(token)
            rows = [row for row in rows if len(texts[row]) < tokens and texts[row][-1] not in end_ids]
            added = [texts[row][-1:] for row in rows]
        return texts

    def _step(self, rows: Sequence[int], added: Sequence[Sequence[int]], lengths: Sequence[int]) -> Tensor:
        """Append tokens to the texts in these rows of the cache; the hidden states of all tokens."""
        tables = [range(1 + row * self._blocks_each, 1 + (row + 1) * self._blocks_each) for row in rows]
        metadata = AttentionMetadata.build(
            lengths,
            [len(tokens) for tokens in added],
            pad_block_tables(tables, torch.device("cpu")),
            self._block_size,
        )
        ids = torch.tensor([token for tokens in added for token in tokens])
        hidden: Tensor = self._model(ids, metadata, self._cache)
        return hidden
