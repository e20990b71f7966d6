"""The three ways a token is chosen: the likeliest, a draw from all tokens, a draw from what is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tgi_shard.sampling.draw import draw, draw_from_vocabulary
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.sampling.random import UniformStreams
from tgi_shard.sampling.truncation import Kept, Truncation

# Below this, dividing by the temperature could overflow; at it, the likeliest token is already the only one.
_LOWEST_TEMPERATURE = 1e-30


@dataclass(frozen=True, slots=True)
class Choice:
    """Tokens chosen for some rows.

    Attributes:
        token_ids: int64 [rows].
        logprobs: float32 [rows]; log-softmax of the processed scores.
        scores: float32 [rows, vocabulary]; processed, apart from what truncation cuts.
        kept: where scores were truncated, what is left of them.
    """

    token_ids: Tensor
    logprobs: Tensor
    scores: Tensor
    kept: Sequence[Kept] = ()

    def processed_scores(self) -> Tensor:
        """float32 [rows, vocabulary]; minus infinity for what was cut."""
        if not self.kept:
            return self.scores
        scores = torch.full_like(self.scores, -torch.inf)
        for kept in self.kept:
            values = torch.where(kept.weights > 0, kept.scores, -torch.inf)
            scores[kept.rows.unsqueeze(1), kept.ids] = values
        return scores


class Chooser(Protocol):
    """Chooses for rows that want it done the same way."""

    def choose(self, scores: Tensor, generated: Tensor) -> Choice:
        """Choose one token per row.

        Args:
            scores: float32 [rows, vocabulary], after penalties; not changed.
            generated: how many tokens each row has generated before this one, int64 [rows].
        """
        ...


class Greedy:
    """Takes the token of the highest score, the lowest id among equals."""

    def choose(self, scores: Tensor, generated: Tensor) -> Choice:
        """Choose one token per row; see `Chooser`."""
        # `max` finds the place several times faster than `argmax` on CPU, and log_softmax is faster than
        # logsumexp.
        token_ids = scores.max(dim=-1).indices
        logprobs = scores.log_softmax(dim=-1).gather(1, token_ids.unsqueeze(1)).squeeze(1)
        return Choice(token_ids, logprobs, scores)


class FullDraw:
    """Draws from the whole vocabulary, after the temperature."""

    def __init__(self, parameters: Sequence[SamplingParameters], device: torch.device) -> None:
        self._temperature = _Temperature(parameters, device)
        self._streams = UniformStreams([p.seed for p in parameters], device)

    def choose(self, scores: Tensor, generated: Tensor) -> Choice:
        """Choose one token per row; see `Chooser`."""
        scores = self._temperature(scores)
        probabilities = scores.softmax(dim=-1)
        token_ids = draw_from_vocabulary(probabilities, self._streams.at(generated))
        logprobs = probabilities.gather(1, token_ids.unsqueeze(1)).squeeze(1).log()
        return Choice(token_ids, logprobs, scores)


class TruncatedDraw:
    """Draws from what top_k, top_p and typical_p leave, after the temperature."""

    def __init__(
        self, parameters: Sequence[SamplingParameters], vocab_size: int, device: torch.device
    ) -> None:
        self._temperature = _Temperature(parameters, device)
        self._streams = UniformStreams([p.seed for p in parameters], device)
        self._truncation = Truncation(parameters, vocab_size, device)

    def choose(self, scores: Tensor, generated: Tensor) -> Choice:
        """Choose one token per row; see `Chooser`."""
        scores = self._temperature(scores)
        uniform = self._streams.at(generated)
        token_ids = torch.empty_like(generated)
        logprobs = scores.new_empty(len(scores))
        groups = list(self._truncation(scores))
        for kept in groups:
            place = draw(kept.weights, uniform[kept.rows]).unsqueeze(1)
            probability = kept.weights.gather(1, place) / kept.weights.sum(dim=1, keepdim=True)
            token_ids[kept.rows] = kept.ids.gather(1, place).squeeze(1)
            logprobs[kept.rows] = probability.squeeze(1).log().to(torch.float32)
        return Choice(token_ids, logprobs, scores, groups)


class _Temperature:
    def __init__(self, parameters: Sequence[SamplingParameters], device: torch.device) -> None:
        temperatures = [max(p.temperature, _LOWEST_TEMPERATURE) for p in parameters]
        self._divisor = torch.tensor(temperatures, dtype=torch.float32, device=device).unsqueeze(1)
        self._neutral = all(temperature == 1.0 for temperature in temperatures)

    def __call__(self, scores: Tensor) -> Tensor:
        return scores if self._neutral else scores / self._divisor
