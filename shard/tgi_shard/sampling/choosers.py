"""The three ways a token is chosen: the likeliest, a draw from all tokens, a draw from what is left."""

from typing import Protocol

import torch
from torch import Tensor

from tgi_shard.sampling.draw import draw, draw_from_vocabulary
from tgi_shard.sampling.greedy import GreedyKernel, torch_greedy
from tgi_shard.sampling.indexing import Positions
from tgi_shard.sampling.random import UniformStreams
from tgi_shard.sampling.row import RowTable, Way
from tgi_shard.sampling.truncation import Truncation

Chosen = tuple[Tensor, Tensor]
"""Token ids, int64 [rows], and their log-softmax among the processed scores, float32 [rows]."""


class Chooser(Protocol):
    """Chooses for rows that want it done the same way."""

    def choose(self, scores: Tensor, generated: Positions) -> Chosen:
        """Choose one token per row.

        Args:
            scores: [rows, vocabulary], after penalties; may be overwritten if penalties could have.
            generated: [rows], how many tokens each row has generated before this one.
        """
        ...

    def process(self, scores: Tensor) -> Tensor:
        """The scores that `choose` chooses by: [rows, vocabulary], minus infinity for what is cut."""
        ...


def make_chooser(
    way: int, rows: RowTable, vocab_size: int, greedy: GreedyKernel, device: torch.device
) -> Chooser:
    """The chooser of rows that go this way, one of `Way`."""
    if way == Way.FULL_DRAW:
        return _FullDraw(rows, device)
    if way == Way.TRUNCATED_DRAW:
        return _TruncatedDraw(rows, vocab_size, device)
    # What penalties leave is float32, which a kernel need not know.
    return _Greedy(greedy if way == Way.GREEDY else torch_greedy)


class _Greedy:
    """Takes the token of the highest score, the lowest id among equals."""

    def __init__(self, kernel: GreedyKernel) -> None:
        self._kernel = kernel

    def choose(self, scores: Tensor, generated: Positions) -> Chosen:
        return self._kernel(scores)

    def process(self, scores: Tensor) -> Tensor:
        return scores


class _FullDraw:
    """Draws from the whole vocabulary, after the temperature."""

    def __init__(self, rows: RowTable, device: torch.device) -> None:
        self._temperature = _Temperature(rows, device)
        self._streams = UniformStreams(rows["seed"], device)

    def choose(self, scores: Tensor, generated: Positions) -> Chosen:
        probabilities = self.process(scores).softmax(dim=-1)
        token_ids = draw_from_vocabulary(probabilities, self._streams.at(generated))
        return token_ids, probabilities.gather(1, token_ids.unsqueeze(1)).squeeze(1).log_()

    def process(self, scores: Tensor) -> Tensor:
        return self._temperature.apply_(scores)


class _TruncatedDraw:
    """Draws from what top_k, top_p, min_p and typical_p leave, after the temperature."""

    def __init__(self, rows: RowTable, vocab_size: int, device: torch.device) -> None:
        self._temperature = _Temperature(rows, device)
        self._streams = UniformStreams(rows["seed"], device)
        self._truncation = Truncation(rows, vocab_size, device)

    def choose(self, scores: Tensor, generated: Positions) -> Chosen:
        scores = self._temperature.apply_(scores)
        numbers = self._streams.at(generated)
        token_ids = torch.empty(len(scores), dtype=torch.int64, device=scores.device)
        logprobs = scores.new_empty(len(scores))
        for kept in self._truncation(scores):
            place = draw(kept.weights, numbers[kept.rows]).unsqueeze(1)
            probability = kept.weights.gather(1, place) / kept.weights.sum(dim=1, keepdim=True)
            token_ids[kept.rows] = kept.ids.gather(1, place).squeeze(1)
            logprobs[kept.rows] = probability.squeeze(1).log().to(torch.float32)
        return token_ids, logprobs

    def process(self, scores: Tensor) -> Tensor:
        scores = self._temperature.apply_(scores)
        processed = torch.full_like(scores, -torch.inf)
        for kept in self._truncation(scores):
            values = torch.where(kept.weights > 0, kept.scores, -torch.inf)
            processed[kept.rows.unsqueeze(1), kept.ids] = values
        return processed


class _Temperature:
    def __init__(self, rows: RowTable, device: torch.device) -> None:
        self._divisor = torch.from_numpy(rows["temperature"][:, None]).to(device)
        self._neutral = bool((rows["temperature"] == 1).all())

    def apply_(self, scores: Tensor) -> Tensor:
        """Divide in place; the scores."""
        return scores if self._neutral else scores.div_(self._divisor)
