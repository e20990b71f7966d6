"""What is kept of the running sequences from step to step, as arrays with a row for each.

A step of single tokens is laid out and advanced by a fixed number of array operations. Python looks at
sequences one by one only when some join or leave.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tgi_shard.attention.metadata import AttentionMetadata, pad_block_tables
from tgi_shard.engine.sequence import Sequence

Counts = npt.NDArray[np.int64]


def reorder(present: list[Sequence], wanted: list[Sequence]) -> tuple[Counts, list[Sequence]]:
    """How to get from some sequences to others.

    Returns:
        The places of the wanted ones, counting first those present and then those that join; and the latter.
    """
    places = {sequence: place for place, sequence in enumerate(present)}
    joined = [sequence for sequence in wanted if sequence not in places]
    places.update((sequence, len(present) + place) for place, sequence in enumerate(joined))
    return np.array([places[sequence] for sequence in wanted], dtype=np.int64), joined


@dataclass(frozen=True, slots=True)
class Step:
    """One step's input.

    Attributes:
        input_ids: [tokens] int64, laid out as `metadata` says.
        ends: [rows], where each row's tokens end.
        contexts: [rows], how many tokens of each are computed once the step is.
        in_prompt: the rows that compute some of their prompt, ascending.
        drawing: the rows that reach their last token, so that a next one is drawn, ascending.
        generated: [drawing], how many tokens each of them has generated before.
    """

    input_ids: Tensor
    metadata: AttentionMetadata
    ends: Counts
    contexts: Counts
    in_prompt: Counts
    drawing: Counts
    generated: Counts


class RunningRows:
    """The sequences of a step, in its order.

    What depends on lengths is on the host, which knows them without waiting for the device. The token that a
    row goes on from never leaves the device.

    Attributes:
        sequences: one for each row.
    """

    def __init__(self, device: torch.device) -> None:
        self.sequences: list[Sequence] = []
        self._device = device
        self._prompt_lengths = np.zeros(0, dtype=np.int64)
        self._computed = np.zeros(0, dtype=np.int64)
        self._block_tables = pad_block_tables([], device)
        self._last_ids = torch.zeros(0, dtype=torch.int64, device=device)

    def arrange(self, sequences: list[Sequence]) -> None:
        """Make these the rows; those that are rows already are not read again."""
        if sequences == self.sequences:
            return
        order, joined = reorder(self.sequences, sequences)
        index = torch.from_numpy(order).to(self._device)
        block_tables, last_ids = self._block_tables, self._last_ids
        if joined:
            tables = pad_block_tables([each.request.blocks for each in joined], self._device)
            block_tables = _stacked(block_tables, tables)
            latest = torch.tensor([each.token_ids[-1] for each in joined], dtype=torch.int64)
            last_ids = torch.cat([last_ids, latest.to(self._device)])
        self._block_tables, self._last_ids = block_tables[index], last_ids[index]
        self._prompt_lengths = _extended(self._prompt_lengths, [each.prompt_length for each in joined])[order]
        self._computed = _extended(self._computed, [each.computed for each in joined])[order]
        self.sequences = list(sequences)

    def plan(self, block_size: int) -> Step:
        """Lay out the next tokens of every row: the chunk of its prompt that its sequence names, or one."""
        queries = np.ones(len(self.sequences), dtype=np.int64)
        in_prompt = np.flatnonzero(self._computed < self._prompt_lengths)
        for row in in_prompt.tolist():
            queries[row] = self.sequences[row].query_length
        contexts = self._computed + queries
        generated = contexts - self._prompt_lengths
        drawing = np.flatnonzero(generated >= 0)
        ends = queries.cumsum()
        return Step(
            input_ids=self._input_ids(queries, ends, in_prompt) if len(in_prompt) else self._last_ids,
            metadata=AttentionMetadata.build(self._computed, queries, self._block_tables, block_size),
            ends=ends,
            contexts=contexts,
            in_prompt=in_prompt,
            drawing=drawing,
            generated=generated[drawing],
        )

    def advance(self, step: Step, token_ids: Tensor) -> None:
        """Take note that a step was computed, and of the tokens drawn: int64 [drawing]."""
        token_ids = token_ids.to(self._device)
        if len(step.drawing) == len(self.sequences):
            self._last_ids = token_ids
        else:
            rows = torch.from_numpy(step.drawing).to(self._device)
            self._last_ids = self._last_ids.index_copy(0, rows, token_ids)
        self._computed = step.contexts

    def _input_ids(self, queries: Counts, ends: Counts, in_prompt: Counts) -> Tensor:
        """The next tokens of all rows: a piece of the prompt for some, the last token for the others."""
        ids = np.zeros(ends[-1], dtype=np.int64)
        for row in in_prompt.tolist():
            start = self._computed[row]
            piece = self.sequences[row].request.prompt_ids[start : start + queries[row]]
            ids[ends[row] - queries[row] : ends[row]] = piece
        input_ids = torch.from_numpy(ids).to(self._device)
        going_on = np.delete(np.arange(len(queries)), in_prompt)
        places = torch.from_numpy(ends[going_on] - 1).to(self._device)
        input_ids[places] = self._last_ids[torch.from_numpy(going_on).to(self._device)]
        return input_ids


def _stacked(upper: Tensor, lower: Tensor) -> Tensor:
    """Block tables above each other, the narrower ones padded with block 0."""
    width = max(upper.shape[1], lower.shape[1])
    return torch.cat([functional.pad(table, (0, width - table.shape[1])) for table in (upper, lower)])


def _extended(counts: Counts, more: list[int]) -> Counts:
    return np.concatenate([counts, np.array(more, dtype=np.int64)])
