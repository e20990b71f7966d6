"""Decode attention by torch operations: the single queries of many sequences together."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tgi_shard.attention.metadata import AttentionMetadata

PADDING_ALLOWED = 1.5
"""All rows stay together as long as padding multiplies the keys to read by no more than this."""

WIDTH_MULTIPLE = 16
"""Rows are padded to multiples of this, a vector of the widest processors: a key then meets the same lane,
and a row's sums come out the same, whatever its neighbours' lengths are."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DecodeGroup:
    """Sequences with one query each, attended in one call.

    Attributes:
        tokens: [rows] int64, which tokens of the step the queries are; None for all of them, in order.
        slots: [rows * width] int64, where the keys are. Padding repeats a key of the same sequence, so that
            nothing another sequence left in the cache (NaN, say) can reach this one.
        bias: [rows, 1, 1, width], 0 for keys and -inf for padding, in the dtype of the queries.
    """

    tokens: Tensor | None
    slots: Tensor
    bias: Tensor

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Attend [rows, heads, head_dim] queries to keys and values in [slots, kv_heads, head_dim] caches."""
        rows, width = self.bias.shape[0], self.bias.shape[-1]
        kv_heads, head_dim = keys.shape[1:]
        shape = (rows, width, kv_heads, head_dim)
        # The heads that share a key-value head are treated as queries at one position: nothing is repeated.
        grouped = query.reshape(rows, kv_heads, -1, head_dim)
        attended = functional.scaled_dot_product_attention(
            grouped,
            keys.index_select(0, self.slots).view(shape).transpose(1, 2),
            values.index_select(0, self.slots).view(shape).transpose(1, 2),
            attn_mask=self.bias,
            scale=scale,
        )
        return attended.flatten(1, 2)


def make_groups(
    metadata: AttentionMetadata, sequences: Indices, window: int | None, block_size: int, dtype: torch.dtype
) -> Iterator[DecodeGroup]:
    """Lay out the decode rows of a step.

    Args:
        metadata: the step.
        sequences: which of its sequences have one query.
        window: how many positions back a query sees; None for all.
        block_size: of the cache.
        dtype: of the queries.
    """
    tokens = metadata.query_lengths.numpy().cumsum()[sequences] - 1
    contexts = metadata.context_lengths.numpy()[sequences]
    seen = contexts if window is None else np.minimum(contexts, window)
    device = metadata.block_tables.device
    for members in group_by_length(seen):
        lengths = torch.from_numpy(seen[members]).to(device)[:, None]
        firsts = torch.from_numpy(contexts[members] - seen[members]).to(device)[:, None]
        rows = torch.from_numpy(sequences[members]).to(device)
        width = -(-int(seen[members].max()) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE
        offsets = torch.arange(width, device=device)[None]
        positions = firsts + torch.minimum(offsets, lengths - 1)
        blocks = metadata.block_tables[rows].gather(1, positions // block_size)
        bias = torch.zeros(len(members), width, dtype=dtype, device=device)
        covers_step = len(members) == len(metadata.query_lengths)
        yield DecodeGroup(
            tokens=None if covers_step else torch.from_numpy(tokens[members]).to(device),
            slots=(blocks * block_size + positions % block_size).flatten(),
            bias=bias.masked_fill_(offsets >= lengths, float("-inf"))[:, None, None, :],
        )


def group_by_length(lengths: Indices) -> list[Indices]:
    """Spread rows over groups so that padding each to its group's longest stays cheap.

    All stay together if they are alike; else each goes with those between the same powers of two, which at
    most doubles its length. Rows keep their order within a group.
    """
    if len(lengths) == 0:
        return []
    if lengths.max() * len(lengths) <= PADDING_ALLOWED * lengths.sum():
        return [np.arange(len(lengths))]
    sizes = np.ceil(np.log2(lengths)).astype(np.int64)
    return [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
