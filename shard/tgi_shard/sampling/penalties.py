"""Penalties on tokens that have already occurred.

Penalties touch only the scores of tokens in a row's history, so a step costs in proportion to the
histories and not to the vocabulary, and no row's scores depend on its neighbours.
"""

import numpy as np
import torch
from torch import Tensor

from tgi_shard.sampling.history import History
from tgi_shard.sampling.indexing import Positions, as_index
from tgi_shard.sampling.row import RowTable

LARGEST_SCORE = 1e18
"""Bound on penalized scores: an extreme penalty must not make infinities, of which nothing can be drawn."""


class Penalties:
    """The penalties of some rows of a batch: none, where no row asks for any."""

    def __init__(self, rows: RowTable, columns: Positions, vocab_size: int, device: torch.device) -> None:
        """Look up who asks for what.

        Args:
            rows: the table of [rows].
            columns: [rows], which column of the history is each row's, where it looks back.
            vocab_size: width of the scores.
            device: of the scores and the history.
        """
        repetition = np.flatnonzero(rows["repetition_penalty"] != 1)
        frequency = np.flatnonzero(rows["frequency_penalty"] != 0)
        presence = np.flatnonzero(rows["presence_penalty"] != 0)
        self._repetition = self._frequency = self._presence = None
        if len(repetition):
            places = _Places(repetition, columns, vocab_size, device)
            penalty = torch.from_numpy(rows["repetition_penalty"][repetition]).to(device)
            self._repetition = _RepetitionPenalty(places, penalty)
        if len(frequency):
            places = _Places(frequency, columns, vocab_size, device)
            penalty = torch.from_numpy(rows["frequency_penalty"][frequency]).to(device)
            self._frequency = _FrequencyPenalty(places, penalty)
        if len(presence):
            places = _Places(presence, columns, vocab_size, device)
            penalty = torch.from_numpy(rows["presence_penalty"][presence]).to(device)
            self._presence = _PresencePenalty(places, penalty)

    def apply_(self, scores: Tensor, generated: Positions, history: History) -> None:
        """Penalize in place.

        Args:
            scores: float32 [rows, vocabulary], contiguous.
            generated: [rows], how many tokens each row has generated.
            history: of the whole batch.
        """
        if self._repetition is not None:
            self._repetition.apply_(scores.view(-1), history)
        if self._frequency is not None:
            self._frequency.apply_(scores.view(-1), generated, history)
        if self._presence is not None:
            self._presence.apply_(scores.view(-1), generated, history)


class _Places:
    """Where the tokens of some rows' histories lie in the flattened scores."""

    def __init__(self, rows: Positions, columns: Positions, vocab_size: int, device: torch.device) -> None:
        self.rows = rows
        self._columns = as_index(columns[rows], device)
        self._starts = torch.from_numpy(rows * vocab_size).to(device)

    def of(self, history: History, latest: int | None = None) -> Tensor:
        """int64 [lines, rows], contiguous."""
        return history.lines(self._columns, latest) + self._starts


class _RepetitionPenalty:
    """Divides the positive and multiplies the negative scores of tokens in the prompt or the output.

    The formula is CTRL's (Keskar et al., 2019) as transformers applies it: once, however often a token
    occurred.
    """

    def __init__(self, places: _Places, penalty: Tensor) -> None:
        self._places = places
        self._penalty = penalty

    def apply_(self, flat: Tensor, history: History) -> None:
        # A place that occurs twice gets the same value twice.
        places = self._places.of(history)
        scores = flat.take(places)
        penalized = torch.where(scores < 0, scores * self._penalty, scores / self._penalty)
        penalized.clamp_(-LARGEST_SCORE, LARGEST_SCORE)
        # What cannot be chosen, as a grammar may say, stays so.
        scores = penalized.masked_fill_(scores == -torch.inf, -torch.inf)
        flat.scatter_(0, places.view(-1), scores.view(-1))


class _FrequencyPenalty:
    """Subtracts the penalty for each time that a token was generated.

    The formula is the one OpenAI documents, score - penalty * count, over generated tokens only. TGI has two,
    and they contradict each other: one divides the count by the length of the batch, the other raises
    negative scores.
    """

    def __init__(self, places: _Places, penalty: Tensor) -> None:
        self._places = places
        self._decrease = -penalty

    def apply_(self, flat: Tensor, generated: Positions, history: History) -> None:
        counts = generated[self._places.rows]
        most = int(counts.max())
        if most == 0:
            return
        places = self._places.of(history, latest=most)
        is_generated = np.arange(most, 0, -1)[:, np.newaxis] <= counts
        decreases = torch.from_numpy(is_generated).to(flat.device) * self._decrease
        # What is added to one score is always the same number or zero: the order of additions is no matter.
        flat.scatter_add_(0, places.view(-1), decreases.view(-1))


class _PresencePenalty:
    """Subtracts the penalty once from each token that was generated, as OpenAI documents it."""

    def __init__(self, places: _Places, penalty: Tensor) -> None:
        self._places = places
        self._penalty = penalty

    def apply_(self, flat: Tensor, generated: Positions, history: History) -> None:
        counts = generated[self._places.rows]
        most = int(counts.max())
        if most == 0:
            return
        places = self._places.of(history, latest=most)
        # The lines of rows that have generated less hold their prompt: the latest token takes its place
        # there, so that a place that occurs twice gets the same value twice.
        is_generated = torch.from_numpy(np.arange(most, 0, -1)[:, np.newaxis] <= counts).to(flat.device)
        places = torch.where(is_generated, places, places[-1:])
        decrease = self._penalty * torch.from_numpy(counts > 0).to(flat.device)
        flat.scatter_(0, places.view(-1), (flat.take(places) - decrease).view(-1))
