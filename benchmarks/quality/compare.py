"""How near a model comes to another: in its logits, and in the texts that it writes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import eq

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class LogitFigures:
    """How far logits are from the reference's, over the tokens of all texts.

    Attributes:
        tokens: that were compared.
        mean_difference: of a logit, without sign.
        largest_difference: of any logit.
        relative_difference: root mean square of the differences, as a part of the standard deviation that the
            reference's logits have at a token.
        divergence: Kullback-Leibler, from the reference's distribution, in nats a token.
        same_likeliest: share of tokens at which both find the same one the likeliest.
    """

    tokens: int
    mean_difference: float
    largest_difference: float
    relative_difference: float
    divergence: float
    same_likeliest: float


class LogitComparison:
    """Adds up differences, text by text."""

    def __init__(self) -> None:
        self._tokens = 0
        self._values = 0
        self._largest = 0.0
        # Of differences, of their squares, of the reference's variances, of divergences, of agreements.
        self._sums = torch.zeros(5, dtype=torch.float64)

    def add(self, reference: Tensor, logits: Tensor) -> None:
        """Compare two [tokens, vocabulary]."""
        differences = (logits - reference).abs().double()
        divergence = functional.kl_div(
            logits.double().log_softmax(-1),
            reference.double().log_softmax(-1),
            reduction="sum",
            log_target=True,
        )
        agreed = (logits.argmax(-1) == reference.argmax(-1)).sum()
        variances = reference.double().var(-1, correction=0) * reference.shape[-1]
        sums = (differences.sum(), differences.square().sum(), variances.sum(), divergence, agreed)
        self._sums += torch.stack([each.double() for each in sums])
        self._largest = max(self._largest, float(differences.max()))
        self._tokens += len(reference)
        self._values += reference.numel()

    def figures(self) -> LogitFigures:
        """What came of it."""
        differences, squares, variances, divergence, agreed = self._sums.tolist()
        return LogitFigures(
            tokens=self._tokens,
            mean_difference=differences / self._values,
            largest_difference=self._largest,
            relative_difference=math.sqrt(squares / variances),
            divergence=divergence / self._tokens,
            same_likeliest=agreed / self._tokens,
        )


@dataclass(frozen=True, slots=True)
class TextFigures:
    """How much of the reference's greedy texts another model writes too; each text counts as much.

    Attributes:
        same_texts: share of texts that are the same to the last token.
        same_beginning: share of a text's tokens before the first that differs.
        same_tokens: share of a text's tokens that are the same in their places.
    """

    same_texts: float
    same_beginning: float
    same_tokens: float


def compare_texts(reference: Sequence[list[int]], texts: Sequence[list[int]]) -> TextFigures:
    """Compare the tokens of texts, each with its like; none is empty."""
    pairs = list(zip(reference, texts, strict=True))
    sizes = [max(len(theirs), len(ours)) for theirs, ours in pairs]
    beginnings = [len(list(takewhile(bool, map(eq, theirs, ours)))) for theirs, ours in pairs]
    # A text that is longer than the other has no like for its last tokens.
    places = [sum(map(eq, theirs, ours)) for theirs, ours in pairs]
    return TextFigures(
        same_texts=sum(theirs == ours for theirs, ours in pairs) / len(pairs),
        same_beginning=sum(n / size for n, size in zip(beginnings, sizes, strict=True)) / len(pairs),
        same_tokens=sum(n / size for n, size in zip(places, sizes, strict=True)) / len(pairs),
    )
