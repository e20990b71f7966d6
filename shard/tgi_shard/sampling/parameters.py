"""What a request asks of sampling, and the check that it can be computed."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How the next token of one request is chosen. The defaults mean greedy decoding.

    Attributes:
        top_k: keep the k likeliest tokens and those equal to the k-th; 0 keeps all.
        top_p: keep the smallest set of the likeliest tokens that reaches this probability; 1 keeps all.
        typical_p: keep the most typical tokens that together reach this probability; 1 keeps all.
        seed: with the token's position, all that a draw depends on.
        repetition_penalty: 1 is neutral; more makes tokens of the prompt and the output less likely.
        frequency_penalty: 0 is neutral; subtracted from a token's score for each time it was generated.

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

    def __post_init__(self) -> None:
        _check_positive("temperature", self.temperature)
        _check_positive("repetition_penalty", self.repetition_penalty)
        _check_probability("top_p", self.top_p)
        _check_probability("typical_p", self.typical_p)
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be 0 (off) or more")
        if not math.isfinite(self.frequency_penalty):
            raise ValueError(f"frequency_penalty is {self.frequency_penalty}; it must be a finite number")

    @property
    def samples(self) -> bool:
        """Whether the token is drawn rather than the likeliest (TGI's rule, server utils/tokens.py)."""
        return self.do_sample or self.temperature != 1.0 or self.truncates

    @property
    def truncates(self) -> bool:
        """Whether the draw is from part of the vocabulary only."""
        return self.top_k != 0 or self.top_p < 1.0 or self.typical_p < 1.0

    @property
    def penalizes(self) -> bool:
        """Whether scores depend on the tokens before."""
        return self.repetition_penalty != 1.0 or self.frequency_penalty != 0.0


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}; it must be a finite number above 0")


def _check_probability(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} is {value}; it must be above 0 and at most 1")
