"""Paged attention by the C++ kernels: the cache is read and written where it lies."""

import numpy as np
import torch
from torch import Tensor

from tgi_shard.attention.metadata import AttentionMetadata
from tgi_shard.cache.paged import KVCache
from tgi_shard.kernels.library import CpuKernels, Heads, Layout

MAX_HEAD_DIM = 256
HEAD_DIM_MULTIPLE = 32
TILE_ROWS = 32
"""Query rows that a work item of the kernel takes."""


class CpuAttention:
    """The backend for bfloat16 on a CPU, with heads of a multiple of 32 dimensions, 256 at most.

    A block of 32 tokens holds each head's keys and values as the kernel multiplies them, see attention.cpp:
    to it the cache's tensors are memory of the right size.
    """

    name = "cpu"
    block_size = 32

    def __init__(self, kernels: CpuKernels) -> None:
        self._kernels = kernels

    @staticmethod
    def supports(head_dim: int) -> bool:
        """Whether heads of this size can be attended."""
        return head_dim % HEAD_DIM_MULTIPLE == 0 and head_dim <= MAX_HEAD_DIM

    def plan(self, metadata: AttentionMetadata, cache: KVCache) -> "CpuAttentionPlan":
        """As `AttentionBackend.plan`."""
        return CpuAttentionPlan(self._kernels, metadata, cache)


class CpuAttentionPlan:
    """One step: where its tokens are. Tiles of queries are cut once, for all layers."""

    def __init__(self, kernels: CpuKernels, metadata: AttentionMetadata, cache: KVCache) -> None:
        self._kernels = kernels
        self._cache = cache
        self._metadata = metadata  # the layout below holds addresses into it
        self._contexts = np.asarray(metadata.context_lengths, dtype=np.int64)
        self._layouts: dict[int, tuple[Layout, Tensor, Tensor]] = {}

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, layer: int, window: int | None, scale: float
    ) -> Tensor:
        """As `AttentionPlan.attend`."""
        tokens, heads, head_dim = query.shape
        kv_heads = key.shape[1]
        attended = query.new_empty(tokens, heads * head_dim)
        self._kernels.attend(
            self._layout(heads // kv_heads),
            Heads(
                query.data_ptr(),
                key.data_ptr(),
                value.data_ptr(),
                query.stride(0),
                key.stride(0),
                value.stride(0),
                self._cache.keys[layer].data_ptr(),
                self._cache.values[layer].data_ptr(),
                attended.data_ptr(),
                heads,
                kv_heads,
                head_dim,
                window or 0,
                scale,
            ),
        )
        return attended

    def _layout(self, group: int) -> Layout:
        """The step's layout for `group` query heads to a key-value head: the same in all layers."""
        if group not in self._layouts:
            self._layouts[group] = self._make_layout(group)
        return self._layouts[group][0]

    def _make_layout(self, group: int) -> tuple[Layout, Tensor, Tensor]:
        metadata = self._metadata
        rows = np.asarray(metadata.query_lengths, dtype=np.int64) * group
        tiles = -(-rows // TILE_ROWS)
        sequences = np.repeat(np.arange(len(rows)), tiles)
        firsts = np.cumsum(tiles) - tiles
        tile_sequences = torch.from_numpy(sequences)
        tile_rows = torch.from_numpy((np.arange(len(sequences)) - firsts[sequences]) * TILE_ROWS)
        layout = Layout(
            len(metadata.position_ids),
            len(rows),
            metadata.slots.data_ptr(),
            metadata.query_starts.data_ptr(),
            self._contexts.ctypes.data,
            metadata.block_tables.data_ptr(),
            metadata.block_tables.stride(0),
            len(sequences),
            tile_sequences.data_ptr(),
            tile_rows.data_ptr(),
        )
        return layout, tile_sequences, tile_rows
