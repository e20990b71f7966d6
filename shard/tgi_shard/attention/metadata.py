"""Which tokens of a step belong to which sequence, and where their keys and values live."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Lengths = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AttentionMetadata:
    """The layout of one flat step: the tokens of all sequences side by side, no padding.

    A sequence contributes a prompt chunk (any number of tokens behind a cached prefix) or one decode token.
    A step may mix both in any order.

    Attributes:
        query_starts: [sequences + 1] int64, where each sequence's tokens begin; the last entry is the total.
        query_lengths: [sequences] int64 on the host, tokens each sequence contributes.
        context_lengths: [sequences] int64 on the host, tokens each has in the cache after this step.
        block_tables: [sequences, blocks] int64, the cache blocks of each sequence in order; padded with 0.
        slots: [tokens] int64, `block * block_size + offset`: where each token's key and value are written.
        position_ids: [tokens] int64, each token's position in its own sequence.
    """

    query_starts: Tensor
    query_lengths: Tensor
    context_lengths: Tensor
    block_tables: Tensor
    slots: Tensor
    position_ids: Tensor

    @classmethod
    def build(
        cls, prefix_lengths: Lengths, query_lengths: Lengths, block_tables: Tensor, block_size: int
    ) -> "AttentionMetadata":
        """Lay out a step whose sequences each add `query_lengths` tokens behind `prefix_lengths` cached ones.

        The work per step is a fixed number of array operations: no Python per token, none per sequence.
        Results are on the device of `block_tables`, which may be kept from one step to the next.

        Raises:
            ValueError: a query is empty, a prefix negative, or the block tables too narrow for a context.
        """
        prefixes = np.asarray(prefix_lengths, dtype=np.int64)
        queries = np.asarray(query_lengths, dtype=np.int64)
        contexts = prefixes + queries
        _check_layout(prefixes, queries, contexts, block_tables, block_size)
        starts = np.zeros(len(queries) + 1, dtype=np.int64)
        np.cumsum(queries, out=starts[1:])
        rows, positions = np.arange(len(queries)), prefixes
        if starts[-1] > len(queries):  # not every sequence adds a single token
            rows = rows.repeat(queries)
            positions = np.arange(starts[-1]) - (starts[:-1] - prefixes).repeat(queries)

        device = block_tables.device
        position_ids = torch.from_numpy(positions).to(device)
        blocks = block_tables[torch.from_numpy(rows).to(device), position_ids // block_size]
        return cls(
            query_starts=torch.from_numpy(starts).to(device),
            query_lengths=torch.from_numpy(queries),
            context_lengths=torch.from_numpy(contexts),
            block_tables=block_tables,
            slots=blocks * block_size + position_ids % block_size,
            position_ids=position_ids,
        )


def pad_block_tables(blocks: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Stack the block lists of several sequences: [sequences, longest list] int64, padded with block 0."""
    tables = np.zeros((len(blocks), max(map(len, blocks), default=0)), dtype=np.int64)
    for row, own in zip(tables, blocks, strict=True):
        row[: len(own)] = own
    return torch.from_numpy(tables).to(device)


def _check_layout(
    prefixes: npt.NDArray[np.int64],
    queries: npt.NDArray[np.int64],
    contexts: npt.NDArray[np.int64],
    block_tables: Tensor,
    block_size: int,
) -> None:
    if not len(prefixes) == len(queries) == len(block_tables):
        counts = f"{len(prefixes)} prefixes, {len(queries)} queries, {len(block_tables)} block tables"
        raise ValueError(f"a step needs one of each per sequence, and at least one sequence: got {counts}")
    if len(queries) == 0 or queries.min() < 1 or prefixes.min() < 0:
        raise ValueError("every sequence of a step needs at least one token behind a prefix of zero or more")
    held = block_tables.shape[1] * block_size
    if contexts.max() > held:
        raise ValueError(f"block tables hold {held} tokens a sequence, the longest one has {contexts.max()}")
