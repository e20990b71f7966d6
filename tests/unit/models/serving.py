"""A way to run our models without an engine: a checkpoint in memory, and steps over scattered blocks."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tgi_shard.attention.metadata import AttentionMetadata, pad_block_tables
from tgi_shard.backend import Backend, torch_backend
from tgi_shard.cache.paged import KVCache
from tgi_shard.distributed import Collective
from tgi_shard.models.causal_lm import CausalLM
from tgi_shard.models.load import load_model
from tgi_shard.models.registry import read_model_config
from tgi_shard.platform import CpuPlatform

VOCAB_SIZE = 97


@dataclass
class MemoryWeights:
    """A checkpoint in memory, which remembers what was read of it."""

    tensors: dict[str, Tensor]
    reads: list[tuple[str, int, int, int]] = field(default_factory=list)

    def names(self) -> Collection[str]:
        return self.tensors.keys()

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def get(self, name: str) -> Tensor:
        return self.tensors[name]

    def get_shard(self, name: str, dim: int, start: int, stop: int) -> Tensor:
        self.reads.append((name, dim, start, stop))
        return self.tensors[name].narrow(dim, start, stop - start)


def load(
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    dtype: torch.dtype = torch.float32,
    *,
    max_length: int = 128,
    collective: Collective | None = None,
    backend: Backend | None = None,
) -> CausalLM:
    platform = CpuPlatform()
    return load_model(
        read_model_config(config),
        MemoryWeights(tensors),
        platform,
        collective or Collective(),
        dtype,
        backend or torch_backend(dtype),
        max_length,
    )


@dataclass
class Sequence:
    """A text being computed: its blocks, and how many of its tokens are in the cache."""

    blocks: list[int]
    length: int = 0


class Server:
    """Computes steps, with blocks scattered over a cache full of other texts' leftovers."""

    def __init__(self, model: CausalLM, num_blocks: int = 80) -> None:
        self.model = model
        self.block_size = model.backend.attention.block_size
        world_size = model.embedding.collective.world.size
        self.cache = KVCache(
            model.config,
            num_blocks=num_blocks,
            block_size=self.block_size,
            dtype=model.norm.weight.dtype,
            device=torch.device("cpu"),
            world_size=world_size,
        )
        for tensor in (*self.cache.keys, *self.cache.values):
            tensor.fill_(float("nan"))
        order = torch.randperm(num_blocks - 1, generator=torch.Generator().manual_seed(5)) + 1
        self.free = order.tolist()

    def open(self, tokens: int, shared: list[int] | None = None) -> Sequence:
        """Reserve blocks for a text of so many tokens, behind full blocks that hold its beginning already."""
        shared = shared or []
        needed = -(-tokens // self.block_size) - len(shared)
        own = [self.free.pop() for _ in range(needed)]
        return Sequence([*shared, *own], len(shared) * self.block_size)

    @torch.inference_mode()
    def step(self, work: list[tuple[Sequence, list[int]]]) -> list[Tensor]:
        """Append tokens to sequences in one step; the logits of each sequence's new tokens."""
        metadata = AttentionMetadata.build(
            [sequence.length for sequence, _ in work],
            [len(tokens) for _, tokens in work],
            pad_block_tables([sequence.blocks for sequence, _ in work], torch.device("cpu")),
            self.block_size,
        )
        ids = torch.tensor([token for _, tokens in work for token in tokens])
        hidden = self.model(ids, metadata, self.cache)
        for sequence, tokens in work:
            sequence.length += len(tokens)
        logits = self.model.logits(hidden)
        return list(logits.split([len(tokens) for _, tokens in work]))

    def greedy(self, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        """Continue prompts together, one step for all of them and then one per token."""
        sequences = [self.open(len(prompt) + new_tokens) for prompt in prompts]
        texts: list[list[int]] = [[] for _ in prompts]
        pending = prompts
        for _ in range(new_tokens):
            logits = self.step(list(zip(sequences, pending, strict=True)))
            pending = [[int(rows[-1].argmax())] for rows in logits]
            for text, token in zip(texts, pending, strict=True):
                text += token
        return texts


def random_text(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCAB_SIZE, (length,), generator=generator).tolist()
