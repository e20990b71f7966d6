"""Sampling of a whole batch at once, doing only what some row asks for.

The order is TGI's (server utils/tokens.py): repetition penalty, frequency penalty, temperature, top_k, top_p,
typical_p, choose. What a row gets depends on nothing but its own scores, tokens, parameters and position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tgi_shard.sampling.choosers import Choice, Chooser, FullDraw, Greedy, TruncatedDraw
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.sampling.penalties import Penalties
from tgi_shard.sampling.row import SamplerRow

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
    _choices: Sequence[tuple[Tensor | None, Choice]]

    @property
    def scores(self) -> Tensor:
        """The scores after all processing, float32 [rows, vocabulary]; put together when asked for."""
        return _together([(rows, choice.processed_scores()) for rows, choice in self._choices])


class BatchSampler:
    """Samples the same rows step after step; build another one when rows join or leave."""

    def __init__(
        self, penalties: Penalties, groups: Sequence[tuple[Tensor | None, Chooser]], device: torch.device
    ) -> None:
        self._penalties = penalties
        self._groups = groups
        self._device = device

    @classmethod
    def from_rows(cls, rows: Sequence[SamplerRow], vocab_size: int, device: torch.device) -> "BatchSampler":
        """The sampler for some rows, one at least, as they stand now.

        Args:
            rows: in the order of the logits' rows.
            vocab_size: width of the logits; token ids lie below it.
            device: where the logits are.
        """
        if device.type == "mps":
            device = torch.device(
                "cpu"
            )  # Apple's GPUs lack the float64 that draws need, and share its memory
        parameters = [row.parameters for row in rows]
        groups = [
            (None if len(members) == len(rows) else torch.tensor(members, device=device), chooser)
            for members, chooser in _choosers(parameters, vocab_size, device)
        ]
        return cls(Penalties(rows, vocab_size, device), groups, device)

    def __call__(self, logits: Tensor, generated: Tensor) -> Sampled:
        """Choose the next token of each row. Changes neither the logits nor the sampler.

        Args:
            logits: any float type, [rows, vocabulary].
            generated: how many tokens each row has generated before this one, int64 [rows].
        """
        scores = logits.to(self._device, torch.float32).contiguous()
        generated = generated.to(self._device)
        if self._penalties:
            if scores is logits:
                scores = scores.clone()
            self._penalties.apply_(scores)
        choices = [
            (rows, chooser.choose(scores, generated))
            if rows is None
            else (rows, chooser.choose(scores[rows], generated[rows]))
            for rows, chooser in self._groups
        ]
        return Sampled(
            token_ids=_together([(rows, choice.token_ids) for rows, choice in choices]),
            logprobs=_together([(rows, choice.logprobs) for rows, choice in choices]),
            _choices=choices,
        )

    def observe(self, token_ids: Tensor) -> None:
        """Take note of the tokens (int64 [rows]) that the rows have gone on with."""
        self._penalties.observe(token_ids)


def _choosers(
    parameters: Sequence[SamplingParameters], vocab_size: int, device: torch.device
) -> list[tuple[list[int], Chooser]]:
    """The ways in which some rows choose, each with its rows."""
    greedy = [row for row, p in enumerate(parameters) if not p.samples]
    truncated = [row for row, p in enumerate(parameters) if p.truncates]
    full = [row for row, p in enumerate(parameters) if p.samples and not p.truncates]
    choosers: list[tuple[list[int], Chooser]] = []
    if greedy:
        choosers.append((greedy, Greedy()))
    if full:
        choosers.append((full, FullDraw([parameters[row] for row in full], device)))
    if truncated:
        choosers.append(
            (truncated, TruncatedDraw([parameters[row] for row in truncated], vocab_size, device))
        )
    return choosers


def _together(parts: Sequence[tuple[Tensor | None, Tensor]]) -> Tensor:
    """Rows from several groups (None: all rows) as one tensor, in the order of the batch."""
    if len(parts) == 1:
        return parts[0][1]
    order = torch.cat([rows for rows, _ in parts if rows is not None])
    together = torch.cat([values for _, values in parts])
    return torch.empty_like(together).index_copy_(0, order, together)
