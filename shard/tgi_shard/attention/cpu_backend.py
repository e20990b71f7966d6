"""Paged attention by the C++ kernels: the cache is read and written where it lies."""

from ctypes import pointer

import numpy as np
import torch
from torch import Tensor

from tgi_shard.attention.metadata import AttentionMetadata
from tgi_shard.cache.paged import KVCache
from tgi_shard.kernels.calls import AttentionCall, Layout
from tgi_shard.kernels.library import CpuKernels, Kernel

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
    """One step: where its tokens are. Tiles of queries are cut once, for all layers.

    Attributes:
        cache: what is read and written.
    """

    def __init__(self, kernels: CpuKernels, metadata: AttentionMetadata, cache: KVCache) -> None:
        self.cache = cache
        self._kernels = kernels
        self._metadata = metadata
        self._layout = pointer(Layout())
        self._group = 0  # query heads to a key-value head; none yet
        self._tiles: tuple[Tensor, Tensor] | None = None

    @property
    def decodes_only(self) -> bool:
        """Whether every sequence of the step has a single token."""
        return len(self._metadata.position_ids) == len(self._metadata.query_lengths)

    def become(self, other: "CpuAttentionPlan") -> None:
        """Be the plan of another step of as many tokens: calls recorded for this one then serve that."""
        self._metadata = other._metadata  # noqa: SLF001 - of the same class
        self._lay_out(self._group)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, layer: int, window: int | None, scale: float
    ) -> Tensor:
        """As `AttentionPlan.attend`."""
        tokens, heads, head_dim = query.shape
        kv_heads = key.shape[1]
        if heads // kv_heads != self._group:
            self._lay_out(heads // kv_heads)
        attended = self._kernels.empty(tokens, heads * head_dim)
        call = AttentionCall(
            self._layout,
            query.data_ptr(),
            key.data_ptr(),
            value.data_ptr(),
            query.stride(0),
            key.stride(0),
            value.stride(0),
            self.cache.keys[layer].data_ptr(),
            self.cache.values[layer].data_ptr(),
            attended.data_ptr(),
            heads,
            kv_heads,
            head_dim,
            window or 0,
            scale,
        )
        self._kernels.call(Kernel.ATTEND, call)
        return attended

    def _lay_out(self, group: int) -> None:
        """Write the layout for `group` query heads to a key-value head, in place."""
        metadata = self._metadata
        tiles = -(-metadata.query_lengths.numpy() * group // TILE_ROWS)
        sequences = np.repeat(np.arange(len(tiles)), tiles)
        firsts = np.cumsum(tiles) - tiles
        tile_sequences = torch.from_numpy(sequences)
        tile_rows = torch.from_numpy((np.arange(len(sequences)) - firsts[sequences]) * TILE_ROWS)
        self._tiles = (tile_sequences, tile_rows)  # the layout holds addresses
        self._group = group
        self._layout[0] = Layout(
            len(metadata.position_ids),
            len(tiles),
            metadata.slots.data_ptr(),
            metadata.query_starts.data_ptr(),
            metadata.context_lengths.data_ptr(),
            metadata.block_tables.data_ptr(),
            metadata.block_tables.stride(0),
            len(sequences),
            tile_sequences.data_ptr(),
            tile_rows.data_ptr(),
        )
