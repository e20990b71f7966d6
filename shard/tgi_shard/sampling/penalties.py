"""Penalties on tokens that have already occurred.

Both penalties touch only the scores of tokens in a row's history, so a step costs in proportion to the
histories and not to the vocabulary. A history is a column of a table that grows by one line per step; shorter
histories are padded at the top with entries that change nothing, so no row's scores depend on its neighbours.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tgi_shard.sampling.row import SamplerRow


class Penalties:
    """The penalties of those rows of a batch that ask for any."""

    def __init__(self, rows: Sequence[SamplerRow], vocab_size: int, device: torch.device) -> None:
        numbered = list(enumerate(rows))
        repetition = [(i, row) for i, row in numbered if row.parameters.repetition_penalty != 1.0]
        frequency = [(i, row) for i, row in numbered if row.parameters.frequency_penalty != 0.0]
        self._penalties: list[RepetitionPenalty | FrequencyPenalty] = []
        if repetition:
            self._penalties.append(RepetitionPenalty(repetition, vocab_size, device))
        if frequency:
            self._penalties.append(FrequencyPenalty(frequency, vocab_size, device))

    def __bool__(self) -> bool:
        return bool(self._penalties)

    def apply_(self, scores: Tensor) -> None:
        """Penalize in place. scores: contiguous float32 [rows, vocabulary]."""
        flat = scores.view(-1)
        for penalty in self._penalties:
            penalty.apply_(flat)

    def observe(self, token_ids: Tensor) -> None:
        """Add one token to each row's history. token_ids: int64 [rows]."""
        for penalty in self._penalties:
            penalty.observe(token_ids)


LARGEST_SCORE = 1e18
"""Bound on penalized scores: an extreme penalty must not make infinities, of which nothing can be drawn."""


class RepetitionPenalty:
    """Divides the positive and multiplies the negative scores of tokens in the prompt or the output.

    The formula is CTRL's (Keskar et al., 2019) as transformers applies it: once, however often a token
    occurred.
    """

    def __init__(self, rows: Sequence[tuple[int, SamplerRow]], vocab_size: int, device: torch.device) -> None:
        self._places = _Places([i for i, _ in rows], vocab_size, device)
        histories = [row.token_ids for _, row in rows]
        # Padding repeats a token of the row itself, which is then penalized to the same value again.
        table = _aligned_at_bottom(histories, [history[0] for history in histories])
        self._seen = _Lines(self._places.of(table.to(device)))
        penalties = [row.parameters.repetition_penalty for _, row in rows]
        self._penalty = torch.tensor(penalties, dtype=torch.float32, device=device)

    def apply_(self, flat: Tensor) -> None:
        """Penalize in place. flat: the scores of the whole batch, float32 [rows * vocabulary]."""
        seen = self._seen.all
        scores = flat.take(seen)
        scores = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
        scores.clamp_(-LARGEST_SCORE, LARGEST_SCORE)
        flat.scatter_(0, seen.view(-1), scores.view(-1))

    def observe(self, token_ids: Tensor) -> None:
        """Add one token to each row's history. token_ids: int64 [rows of the batch]."""
        self._seen.append(self._places.of(token_ids[self._places.rows]))


class FrequencyPenalty:
    """Subtracts the penalty for each time that a token was generated.

    The formula is the one OpenAI documents, score - penalty * count, over generated tokens only. TGI has two,
    and they contradict each other: one divides the count by the length of the batch, the other raises
    negative scores.
    """

    def __init__(self, rows: Sequence[tuple[int, SamplerRow]], vocab_size: int, device: torch.device) -> None:
        self._places = _Places([i for i, _ in rows], vocab_size, device)
        penalties = [row.parameters.frequency_penalty for _, row in rows]
        self._decrease = torch.tensor([-penalty for penalty in penalties], dtype=torch.float32, device=device)
        generated = [row.token_ids[row.prompt_length :] for _, row in rows]
        table = _aligned_at_bottom(generated, [-1] * len(rows)).to(device)
        # Padding subtracts nothing from token 0.
        self._seen = _Lines(self._places.of(table.clamp(min=0)))
        self._decreases = _Lines((table >= 0) * self._decrease)

    def apply_(self, flat: Tensor) -> None:
        """Penalize in place. flat: the scores of the whole batch, float32 [rows * vocabulary]."""
        # What is added to one score is always the same number or zero: the order of additions is no matter.
        flat.scatter_add_(0, self._seen.all.view(-1), self._decreases.all.view(-1))

    def observe(self, token_ids: Tensor) -> None:
        """Add one token to each row's history. token_ids: int64 [rows of the batch]."""
        self._seen.append(self._places.of(token_ids[self._places.rows]))
        self._decreases.append(self._decrease)


def _aligned_at_bottom(histories: Sequence[Sequence[int]], padding: Sequence[int]) -> Tensor:
    """Histories as the columns of a table, padded at the top: int64 [longest history, histories]."""
    table = np.tile(np.asarray(padding, dtype=np.int64), (max(map(len, histories)), 1))
    for column, history in enumerate(histories):
        table[len(table) - len(history) :, column] = history
    return torch.from_numpy(table)


class _Places:
    """Where the tokens of some rows lie in the flattened scores of the whole batch."""

    def __init__(self, rows: Sequence[int], vocab_size: int, device: torch.device) -> None:
        self.rows = torch.tensor(rows, dtype=torch.int64, device=device)
        self._starts = self.rows * vocab_size

    def of(self, token_ids: Tensor) -> Tensor:
        """Indices into the flattened scores. token_ids: int64 [..., rows]."""
        return token_ids + self._starts


class _Lines:
    """A table of equally long lines in one buffer, which doubles when it is full."""

    def __init__(self, lines: Tensor) -> None:
        self._length, width = lines.shape
        self._buffer = lines.new_empty(self._length + 64, width)
        self._buffer[: self._length] = lines

    @property
    def all(self) -> Tensor:
        """The lines so far: [length, width], contiguous."""
        return self._buffer[: self._length]

    def append(self, line: Tensor) -> None:
        """Add a line: [width]."""
        if self._length == len(self._buffer):
            self._buffer = torch.cat([self._buffer, torch.empty_like(self._buffer)])
        self._buffer[self._length] = line
        self._length += 1
