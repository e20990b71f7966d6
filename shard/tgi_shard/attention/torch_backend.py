"""Paged attention by torch operations: runs on every device that torch knows.

Keys and values are gathered from the cache, then attended by torch's fused kernel, which keeps its softmax in
float32. Decode rows go together, prompt chunks one by one.
"""

import numpy as np
import torch
from torch import Tensor

from tgi_shard.attention.metadata import AttentionMetadata
from tgi_shard.attention.torch_decode import DecodeGroup, make_groups
from tgi_shard.attention.torch_prefill import PromptChunk
from tgi_shard.cache.paged import KVCache


class TorchAttention:
    """The backend that runs anywhere."""

    name = "torch"
    block_size = 16

    def plan(self, metadata: AttentionMetadata, cache: KVCache) -> "TorchAttentionPlan":
        """Sort the step's sequences into decode rows and prompt chunks."""
        return TorchAttentionPlan(metadata, cache)


class TorchAttentionPlan:
    """One step. What its layers share is computed once: layers differ in their window only."""

    def __init__(self, metadata: AttentionMetadata, cache: KVCache) -> None:
        self._metadata = metadata
        self._cache = cache
        self._groups: dict[int | None, list[DecodeGroup]] = {}
        lengths = metadata.query_lengths.numpy()
        self._decoding = np.flatnonzero(lengths == 1)
        self._chunks = [self._make_chunk(row) for row in np.flatnonzero(lengths > 1).tolist()]

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, layer: int, window: int | None, scale: float
    ) -> Tensor:
        """As `AttentionPlan.attend`."""
        self._cache.write(layer, key, value, self._metadata.slots)
        keys, values = self._cache.tokens(layer)
        attended = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        for group in self._decode_groups(window, query.dtype):
            if group.tokens is None:  # the group is the whole step
                return group.attend(query, keys, values, scale).flatten(1)
            rows = query.index_select(0, group.tokens)
            attended.index_copy_(0, group.tokens, group.attend(rows, keys, values, scale))
        for chunk in self._chunks:
            attended[chunk.start : chunk.stop] = chunk.attend(
                (query, key, value), (keys, values), window, scale
            )
        return attended.flatten(1)

    def _decode_groups(self, window: int | None, dtype: torch.dtype) -> list[DecodeGroup]:
        if window not in self._groups:
            groups = make_groups(self._metadata, self._decoding, window, self._cache.block_size, dtype)
            self._groups[window] = list(groups)
        return self._groups[window]

    def _make_chunk(self, row: int) -> PromptChunk:
        metadata, block_size = self._metadata, self._cache.block_size
        context, length = int(metadata.context_lengths[row]), int(metadata.query_lengths[row])
        start = int(metadata.query_lengths[:row].sum())
        positions = torch.arange(context, device=metadata.block_tables.device)
        slots = metadata.block_tables[row][positions // block_size] * block_size + positions % block_size
        return PromptChunk(start, start + length, context - length, slots)
