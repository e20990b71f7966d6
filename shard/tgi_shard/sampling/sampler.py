"""Sampling of a whole batch at once, doing only what some row asks for.

The order is TGI's (server utils/tokens.py), with a place for what TGI lacks: bias, watermark, no end before
there are enough tokens, repetition, frequency and presence penalty, temperature, top_k, top_p, min_p,
typical_p, choose. What a row gets depends on nothing but its own scores, tokens, parameters and position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgi_shard.sampling.greedy import GreedyKernel, torch_greedy
from tgi_shard.sampling.history import History
from tgi_shard.sampling.indexing import Index, Positions, as_index
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.sampling.part import Part, divide
from tgi_shard.sampling.row import SamplerRow, tabulate

__all__ = ["BatchSampler", "Sampled", "SamplerRow"]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One token for each row.

    Attributes:
        token_ids: int64 [rows].
        logprobs: float32 [rows]; log-softmax of the scores after all processing, NaN where the row has no
            distribution (its logits are NaN or all minus infinity).
    """

    token_ids: Tensor
    logprobs: Tensor


class BatchSampler:
    """Samples the rows of a batch step after step; nothing is done anew for rows that stay."""

    def __init__(self, vocab_size: int, device: torch.device, greedy: GreedyKernel = torch_greedy) -> None:
        """Make a sampler without rows.

        Args:
            vocab_size: width of the logits; token ids lie below it.
            device: where the logits are.
            greedy: makes the greedy choices.
        """
        if device.type == "mps":
            # Apple's GPUs lack the float64 that draws need, and share the host's memory.
            device = torch.device("cpu")
        self._vocab_size = vocab_size
        self._device = device
        self._greedy = greedy
        self._rows = tabulate([])
        self._parameters: list[SamplingParameters] = []
        self._history = History(device)
        self._parts: list[Part] = []
        self._looking_back: Index | None = None

    def rearrange(self, order: Positions, joined: Sequence[SamplerRow]) -> None:
        """Make these the rows: `order` counts the present ones, then the joined; those left out go."""
        rows = np.concatenate([self._rows, tabulate(joined)]) if joined else self._rows
        columns = rows["looks_back"].cumsum() - 1
        histories = [row.token_ids for row in joined if row.parameters.looks_back]
        known = [*self._parameters, *(row.parameters for row in joined)]
        arranged, parameters = rows[order], [known[place] for place in order]
        parts = list(divide(arranged, parameters, self._vocab_size, self._greedy, self._device))
        looking_back = np.flatnonzero(arranged["looks_back"])
        # Only now does anything change: whoever fails to rearrange has the sampler as it was.
        if self._looking_back is not None or histories:
            self._history.rearrange(columns[order][looking_back], histories)
        self._rows, self._parameters = arranged, parameters
        self._parts = parts
        self._looking_back = as_index(looking_back, self._device) if len(looking_back) else None

    def sample(self, logits: Tensor, generated: Positions) -> Sampled:
        """Choose the next token of each row. Changes neither the logits nor the sampler.

        Args:
            logits: any float type, [rows, vocabulary].
            generated: [rows], how many tokens each row has generated before this one.
        """
        logits = logits.to(self._device)
        chosen = [part.choose(logits, generated, self._history) for part in self._parts]
        if len(chosen) == 1:
            return Sampled(*chosen[0])
        sampled = Sampled(
            torch.empty(len(logits), dtype=torch.int64, device=self._device),
            torch.empty(len(logits), dtype=torch.float32, device=self._device),
        )
        for part, (token_ids, logprobs) in zip(self._parts, chosen, strict=True):
            sampled.token_ids[part.index] = token_ids
            sampled.logprobs[part.index] = logprobs
        return sampled

    def scores(self, logits: Tensor, generated: Positions, rows: Positions) -> Tensor:
        """The scores by which `sample` chooses for some rows, computed again for who wants to see them.

        Args:
            logits: as in `sample`.
            generated: as in `sample`.
            rows: which, ascending.

        Returns:
            float32 [rows, vocabulary]; minus infinity for tokens that were cut.
        """
        logits = logits.to(self._device)
        scores = torch.empty(len(rows), self._vocab_size, dtype=torch.float32, device=self._device)
        for part in self._parts:
            _, own, asked = np.intersect1d(part.rows, rows, assume_unique=True, return_indices=True)
            if len(own):
                processed = part.process(logits, generated, self._history)
                scores[as_index(asked, self._device)] = processed[as_index(own, self._device)].to(
                    scores.dtype
                )
        return scores

    def observe(self, token_ids: Tensor) -> None:
        """Take note of the tokens (int64 [rows]) that the rows have gone on with."""
        if self._looking_back is not None:
            self._history.append(token_ids[self._looking_back])
