"""What a request asks of sampling, and the check that it can be computed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How the next token of one request is chosen. The defaults mean greedy decoding.

    Attributes:
        top_k: keep the k likeliest tokens and those equal to the k-th; 0 keeps all.
        top_p: keep the smallest set of the likeliest tokens that reaches this probability; 1 keeps all.
        typical_p: keep the most typical tokens that together reach this probability; 1 keeps all.
        min_p: drop tokens less likely than this share of the likeliest one's probability; 0 keeps all.
        seed: with the token's position, all that a draw depends on.
        repetition_penalty: 1 is neutral; more makes tokens of the prompt and the output less likely.
        frequency_penalty: 0 is neutral; subtracted from a token's score for each time it was generated.
        presence_penalty: 0 is neutral; subtracted once from the score of each token that was generated.
        token_bias: added to the scores of tokens, by id, before anything else.
        watermark: favour the tokens of a list that follows from the token before, so that it can be shown.
        min_new_tokens: the number of tokens before which none of `end_ids` is chosen.
        end_ids: the tokens that would end the text.

    Raises:
        ValueError: a value that cannot be computed, with the range that can.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    typical_p: float = 1.0
    do_sample: bool = False
    seed: int = 0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    token_bias: Mapping[int, float] = field(default_factory=dict)
    watermark: bool = False
    min_new_tokens: int = 0
    end_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        _check_positive("temperature", self.temperature)
        _check_positive("repetition_penalty", self.repetition_penalty)
        _check_probability("top_p", self.top_p)
        _check_probability("typical_p", self.typical_p)
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be 0 (off) or more")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}; it must be from 0 to 1")
        _check_finite("frequency_penalty", self.frequency_penalty)
        _check_finite("presence_penalty", self.presence_penalty)
        for token_id, bias in self.token_bias.items():
            _check_finite(f"the bias of token {token_id}", bias)

    @property
    def samples(self) -> bool:
        """Whether the token is drawn rather than the likeliest (TGI's rule, server utils/tokens.py)."""
        return self.do_sample or self.temperature != 1.0 or self.truncates

    @property
    def truncates(self) -> bool:
        """Whether the draw is from part of the vocabulary only."""
        return self.top_k != 0 or self.top_p < 1.0 or self.typical_p < 1.0 or self.min_p > 0.0

    @property
    def looks_back(self) -> bool:
        """Whether scores depend on the tokens before."""
        penalizes = (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (
            1.0,
            0.0,
            0.0,
        )
        return penalizes or self.watermark

    @property
    def adjusts(self) -> bool:
        """Whether tokens are chosen by other scores than the model's own."""
        return self.looks_back or bool(self.token_bias) or self.min_new_tokens > 0


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}; it must be a finite number above 0")


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be a finite number")


def _check_probability(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} is {value}; it must be above 0 and at most 1")
