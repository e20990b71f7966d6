"""The tokens of the rows whose scores depend on them, kept in place from step to step."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tgi_shard.sampling.indexing import Index, Positions

_ROOM = 64  # lines to begin with for tokens to come


class History:
    """A table with a column of token ids for each row, latest at the bottom, that grows by a line per step.

    Columns shorter than the table are padded at the top with the first token of their own row.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lengths = np.zeros(0, dtype=np.int64)
        self._keep(torch.empty(1, 0, dtype=torch.int64, device=device))

    def lines(self, columns: Index, latest: int | None = None) -> Tensor:
        """int64 [lines, columns]: the whole table of some columns, or its `latest` lines."""
        first = 0 if latest is None else self._height - latest
        return self._buffer[first : self._height, columns]

    def append(self, token_ids: Tensor) -> None:
        """Add one token to each column: int64 [columns]."""
        if self._height == len(self._buffer):
            self._keep(self._buffer)
        self._buffer[self._height] = token_ids
        self._height += 1
        self._lengths += 1

    def rearrange(self, order: Positions, joined: Sequence[Sequence[int]]) -> None:
        """Make these the columns: `order` counts the present ones, then the joined; those left out go."""
        new_lengths = np.array([len(tokens) for tokens in joined], dtype=np.int64)
        table = self._buffer[: self._height]
        if joined:
            new = _side_by_side(joined).to(self._device)
            height = max(len(table), len(new))
            table = torch.cat([_padded(table, height), _padded(new, height)], dim=1)
        lengths = np.concatenate([self._lengths, new_lengths])[order]
        height = int(lengths.max(initial=1))
        self._keep(table[-height:].index_select(1, torch.from_numpy(order).to(self._device)))
        self._lengths = lengths

    def _keep(self, lines: Tensor) -> None:
        """Make these the lines of a buffer that has room for more: half as many again."""
        height, columns = lines.shape
        buffer = lines.new_empty(height + max(height // 2, _ROOM), columns)
        buffer[:height] = lines
        self._height, self._buffer = height, buffer


def _side_by_side(histories: Sequence[Sequence[int]]) -> Tensor:
    table = np.empty((max(map(len, histories)), len(histories)), dtype=np.int64)
    for column, history in zip(table.T, histories, strict=True):
        column[: len(column) - len(history)] = history[0]
        column[len(column) - len(history) :] = history
    return torch.from_numpy(table)


def _padded(lines: Tensor, height: int) -> Tensor:
    return torch.cat([lines[:1].expand(height - len(lines), -1), lines])
