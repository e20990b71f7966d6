"""The decoder: layers of attention and MLP, each behind a norm and beside a residual stream.

Everything a family can vary is a switch of `ModelConfig`; everything that depends on the device or a step's
layout is behind `AttentionPlan`. The body has no branches on data, so that a compiler can follow it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tgi_shard.attention.interface import AttentionPlan
from tgi_shard.distributed import Collective
from tgi_shard.layers.linear import load_column_parallel, load_gated, load_row_parallel
from tgi_shard.layers.loading import Part, WeightLoader
from tgi_shard.layers.matrices import MatrixMaker
from tgi_shard.layers.norm import RMSNorm
from tgi_shard.layers.partition import split_evenly, split_kv_heads
from tgi_shard.layers.rope import Rotation
from tgi_shard.models.config import ModelConfig
from tgi_shard.models.weight_names import WeightNames


@dataclass(frozen=True, slots=True)
class LayerSource:
    """What the layer of number `index` (from 0) is built from."""

    config: ModelConfig
    names: WeightNames
    loader: WeightLoader
    matrices: MatrixMaker
    collective: Collective
    index: int

    @property
    def prefix(self) -> str:
        """What the names of this layer's tensors begin with."""
        return self.names.layer.format(index=self.index)

    def norm(self, name: str) -> RMSNorm:
        """The norm of this name, over the hidden size."""
        weight = self.loader.whole(self.prefix + name, (self.config.hidden_size,))
        return RMSNorm(self.matrices.operations, weight, self.config.rms_norm_eps)


class SelfAttention(nn.Module):
    """Causal attention of grouped queries (arXiv 2305.13245), with the heads of this rank."""

    def __init__(self, source: LayerSource) -> None:
        super().__init__()
        config, names, prefix = source.config, source.names, source.prefix
        heads = split_evenly(config.num_heads, source.collective.world)
        kv_heads = split_kv_heads(config.num_kv_heads, source.collective.world)
        self.layer = source.index
        self.window = config.windows[source.index]
        self.heads, self.kv_heads = heads.size, kv_heads.size
        self.head_dim = config.head_dim
        self.scale = config.head_dim**-0.5
        self.operations = source.matrices.operations
        self.qkv = load_column_parallel(
            source.loader,
            source.matrices,
            [
                Part(prefix + names.query, heads.times(config.head_dim)),
                Part(prefix + names.key, kv_heads.times(config.head_dim)),
                Part(prefix + names.value, kv_heads.times(config.head_dim)),
            ],
            config.hidden_size,
            bias=config.qkv_bias,
        )
        self.output = load_row_parallel(
            source.loader,
            source.matrices,
            Part(prefix + names.output, heads.times(config.head_dim)),
            config.hidden_size,
            source.collective,
            bias=config.o_bias,
        )
        self.qk_norm = self._load_qk_norm(source) if config.qk_norm else None

    def _load_qk_norm(self, source: LayerSource) -> RMSNorm:
        """The norms of queries and keys as one, with a row of weights for each head."""
        rows = ((source.names.query_norm, self.heads), (source.names.key_norm, self.kv_heads))
        weights = [
            source.loader.whole(source.prefix + name, (self.head_dim,)).expand(count, -1)
            for name, count in rows
        ]
        return RMSNorm(source.matrices.operations, torch.cat(weights), source.config.rms_norm_eps)

    def forward(self, hidden: Tensor, rotation: Rotation, attention: AttentionPlan) -> Tensor:
        """[tokens, hidden] to the same shape."""
        qkv = self.qkv(hidden).view(len(hidden), -1, self.head_dim)
        # Queries and keys are normalized and turned together: half the operations.
        heads, turned = self.heads, self.heads + self.kv_heads
        qk = qkv[:, :turned]
        if self.qk_norm is not None:
            qk = self.qk_norm.normalize_heads(qk)
        qk = self.operations.rotate(qk, rotation)
        attended = attention.attend(
            qk[:, :heads],
            qk[:, heads:],
            qkv[:, turned:],
            layer=self.layer,
            window=self.window,
            scale=self.scale,
        )
        output: Tensor = self.output(attended)
        return output


class GatedMLP(nn.Module):
    """`down(act(gate(x)) * up(x))` (arXiv 2002.05202), with the inner dimensions of this rank."""

    def __init__(self, source: LayerSource) -> None:
        super().__init__()
        config, names, prefix = source.config, source.names, source.prefix
        inner = split_evenly(config.intermediate_size, source.collective.world)
        self.gate_up = load_gated(
            source.loader,
            source.matrices,
            (Part(prefix + names.gate, inner), Part(prefix + names.up, inner)),
            config.hidden_size,
            config.hidden_act,
            bias=config.mlp_bias,
        )
        self.down = load_row_parallel(
            source.loader,
            source.matrices,
            Part(prefix + names.down, inner),
            config.hidden_size,
            source.collective,
            bias=config.mlp_bias,
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """[tokens, hidden] to the same shape."""
        output: Tensor = self.down(self.gate_up(hidden))
        return output


class DecoderLayer(nn.Module):
    """Attention, then the MLP; each reads the normalized residual stream and adds to it.

    A layer leaves its last addition to the next one's norm, which reads the stream anyway.
    """

    def __init__(self, source: LayerSource) -> None:
        super().__init__()
        self.attention_norm = source.norm(source.names.attention_norm)
        self.attention = SelfAttention(source)
        self.mlp_norm = source.norm(source.names.mlp_norm)
        self.mlp = GatedMLP(source)

    def forward(
        self, hidden: Tensor, delta: Tensor | None, rotation: Rotation, attention: AttentionPlan
    ) -> tuple[Tensor, Tensor]:
        """Take the stream and what is still to be added to it, both [tokens, hidden]; answer the same."""
        hidden, normed = self.attention_norm(hidden, delta)
        hidden, normed = self.mlp_norm(hidden, self.attention(normed, rotation, attention))
        return hidden, self.mlp(normed)
