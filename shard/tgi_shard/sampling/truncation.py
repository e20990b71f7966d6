"""Cutting the unlikely tail before a draw: top_k, then top_p, min_p, typical_p.

Only the best tokens of a row are looked at. A few are ranked first; rows whose kept tokens may reach beyond
them are ranked again, wider, and at last whole. What a row keeps does not depend on how many were ranked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgi_shard.sampling.ranking import best_first
from tgi_shard.sampling.row import RowTable

_FIRST_WIDTH = 512
_WIDENING = 16


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of some rows, best token first.

    Attributes:
        rows: which rows, int64 [n].
        ids: token ids, int64 [n, width].
        scores: float32 [n, width].
        weights: in proportion to the probabilities, 0 for what was cut; float64 [n, width].
    """

    rows: Tensor
    ids: Tensor
    scores: Tensor
    weights: Tensor

    def select(self, which: Tensor) -> "Kept":
        """Some of the rows. which: bool [n]."""
        return Kept(self.rows[which], self.ids[which], self.scores[which], self.weights[which])


class Truncation:
    """The limits of some rows, each of which has at least one."""

    def __init__(self, rows: RowTable, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        top_k = np.minimum(np.where(rows["top_k"] > 0, rows["top_k"], vocab_size), vocab_size)
        self._top_k = torch.from_numpy(top_k[:, None]).to(device)
        self._top_p = torch.from_numpy(rows["top_p"][:, None]).to(device)
        self._typical = torch.from_numpy(rows["typical_p"][:, None]).to(device)
        self._min_p = torch.from_numpy(rows["min_p"][:, None]).to(device)
        self._any_typical = bool(rows["typical_p"].min() < 1)
        self._all_top_k = bool(top_k.max() < vocab_size)
        self._rows = torch.arange(len(rows), device=device)
        # Sorting all is cheap on other devices; waiting to be told which rows are settled is not.
        widest = max(_FIRST_WIDTH, 2 * int(rows["top_k"].max()))
        self._first_width = self._capped(widest) if device.type == "cpu" else vocab_size

    def __call__(self, scores: Tensor) -> Iterator[Kept]:
        """Cut the tail of each row.

        Args:
            scores: float32 [rows, vocabulary]; after the temperature.

        Yields:
            The rows, each once, in groups of those that were ranked equally wide.
        """
        rows, width = self._rows, self._first_width
        while len(rows):
            kept, settled = self._cut(scores, rows, width)
            if width == self._vocab_size or settled.all():
                yield kept
                return
            yield kept.select(settled)
            rows, scores = rows[~settled], scores[~settled]
            width = self._capped(width * _WIDENING)

    def _capped(self, width: int) -> int:
        """The width itself, or the vocabulary where ranking a part would cost as much as ranking all."""
        return width if width < self._vocab_size / 4 else self._vocab_size

    def _cut(self, scores: Tensor, rows: Tensor, width: int) -> tuple[Kept, Tensor]:
        """Cut the tail of `rows` (scores: [n, vocabulary]) among the `width` best tokens of each.

        Returns:
            What is left, and which of the rows it is right for (bool [n]): those that keep nothing as low as
            the last token ranked, beyond which there may be more.
        """
        best, ids = best_first(scores, width)
        weights = (best.to(torch.float64) - best[:, :1]).exp()
        top_k, last = self._top_k[rows], best[:, -1:]
        limited = top_k < self._vocab_size
        kth = best.gather(1, (top_k - 1).clamp(max=width - 1))
        in_top_k = ~limited | (best >= kth)
        settled = ~limited | (kth > last)
        weights = weights * in_top_k
        total = weights.sum(dim=1, keepdim=True)
        if not self._all_top_k:
            # The best weight is 1, so the weight of the whole vocabulary is one over the best probability.
            total = torch.where(limited, total, 1 / scores.softmax(dim=-1).gather(1, ids[:, :1]))
        weights = weights * self._in_top_p(weights, total, self._top_p[rows])
        # A weight is the token's share of the likeliest one's probability: min_p (Nguyen et al., 2024).
        weights = weights * (weights >= self._min_p[rows])
        lowest = best.gather(1, (weights > 0).sum(dim=1, keepdim=True).sub_(1).clamp_(min=0))
        settled &= lowest > last
        if self._any_typical:
            weights = weights * _typical(weights, self._typical[rows])
        return Kept(rows, ids, best, weights), settled.squeeze(1)

    @staticmethod
    def _in_top_p(weights: Tensor, total: Tensor, top_p: Tensor) -> Tensor:
        """The smallest set of the best tokens that reaches `top_p` of `total` (Holtzman et al., 2020)."""
        before = torch.nn.functional.pad(weights.cumsum(dim=1)[:, :-1], (1, 0))
        return (before < top_p * total) | (top_p >= 1)


def _typical(weights: Tensor, mass: Tensor) -> Tensor:
    """The tokens of the most expected surprise that together reach `mass` (Meister et al., 2022).

    As transformers and TGI do: tokens are taken by the distance of -log p from the entropy, and those as far
    as the last one needed are kept with it.

    Args:
        weights: float64 [rows, width]; 0 for tokens already cut.
        mass: the probability to reach, float64 [rows, 1]; 1 keeps all.

    Returns:
        bool [rows, width].
    """
    probabilities = weights / weights.sum(dim=1, keepdim=True)
    entropy = torch.special.entr(probabilities).sum(dim=1, keepdim=True)
    distance = (-probabilities.log() - entropy).abs()
    ordered, order = distance.sort(dim=1)
    reached = probabilities.gather(1, order).cumsum(dim=1)
    needed = (reached < mass).sum(dim=1, keepdim=True).clamp_(max=weights.shape[1] - 1)
    kept: Tensor = (distance <= ordered.gather(1, needed)) | (mass >= 1)
    return kept
