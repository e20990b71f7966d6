"""Rotary position embeddings (arXiv 2104.09864) and the ways to stretch them over longer texts.

A scaling is a class: it says how fast each pair of dimensions turns. Angles are computed from the positions
once per step, in float32, for all layers: that takes microseconds, where a table of all positions would take
hundreds of megabytes for the longest contexts.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class RopeScaling(Protocol):
    """How the frequencies of a model differ from plain rotary embeddings."""

    @property
    def amplitude(self) -> float:
        """Factor on cosines and sines."""

    def frequencies(self, theta: float, rotary_dim: int, max_length: int) -> Tensor:
        """Radians per position of each pair of dimensions: [rotary_dim / 2] float32.

        Args:
            theta: the base of the geometric series of frequencies.
            rotary_dim: how many dimensions of a head turn.
            max_length: the longest sequence that will be served.
        """


def plain_frequencies(theta: float, rotary_dim: int) -> Tensor:
    """`theta ** (-2i / rotary_dim)`: [rotary_dim / 2] float32."""
    return 1.0 / theta ** (torch.arange(0, rotary_dim, 2, dtype=torch.float32) / rotary_dim)


@dataclass(frozen=True, slots=True)
class NoScaling:
    """Plain rotary embeddings."""

    amplitude: float = 1.0

    def frequencies(self, theta: float, rotary_dim: int, max_length: int) -> Tensor:
        """The plain ones."""
        return plain_frequencies(theta, rotary_dim)


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Positions divided by a factor (arXiv 2306.15595)."""

    factor: float
    amplitude: float = 1.0

    def frequencies(self, theta: float, rotary_dim: int, max_length: int) -> Tensor:
        """All of them slower by the factor."""
        return plain_frequencies(theta, rotary_dim) / self.factor


@dataclass(frozen=True, slots=True)
class DynamicScaling:
    """NTK-aware scaling: a larger base for texts longer than the model was trained on.

    transformers raises the base as a text grows, which leaves the keys already cached turned by another base,
    and keys shared between requests of different lengths would disagree. Here the base is chosen once, for
    the longest sequence that will be served. A server that stays within `trained_length` computes exactly
    what transformers does; one that goes beyond has, for every text, transformers' base at that length.
    """

    factor: float
    trained_length: int
    amplitude: float = 1.0

    def frequencies(self, theta: float, rotary_dim: int, max_length: int) -> Tensor:
        """Plain ones with a base that fits `max_length`."""
        stretch = self.factor * max(max_length, self.trained_length) / self.trained_length - (self.factor - 1)
        return plain_frequencies(theta * stretch ** (rotary_dim / (rotary_dim - 2)), rotary_dim)


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Llama 3.1's: slow frequencies divided by a factor, fast ones kept, a smooth passage between them."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    trained_length: int
    amplitude: float = 1.0

    def frequencies(self, theta: float, rotary_dim: int, max_length: int) -> Tensor:
        """Kept above `high_freq_factor` turns within a trained text, divided below `low_freq_factor`."""
        plain = plain_frequencies(theta, rotary_dim)
        turns = self.trained_length * plain / (2 * math.pi)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        return torch.lerp(plain / self.factor, plain, kept.clamp(0, 1))


@dataclass(frozen=True, slots=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071): as llama3's in spirit, with the passage linear over the dimensions.

    Attributes:
        beta_fast: dimensions that turn more often than this within a trained text are kept.
        beta_slow: those that turn less often are divided by the factor.
        round_passage: the passage begins and ends at whole dimensions.
        amplitude: the paper's `sqrt(1/t)`; see `yarn_amplitude`.
    """

    factor: float
    trained_length: int
    beta_fast: float
    beta_slow: float
    round_passage: bool
    amplitude: float

    def frequencies(self, theta: float, rotary_dim: int, max_length: int) -> Tensor:
        """Kept for fast dimensions, divided for slow ones, a mixture in the passage."""
        begin = self._dimension_with(self.beta_fast, theta, rotary_dim)
        end = self._dimension_with(self.beta_slow, theta, rotary_dim)
        if self.round_passage:
            begin, end = math.floor(begin), math.ceil(end)
        begin, end = max(begin, 0), min(end, rotary_dim - 1)
        if begin == end:
            end += 0.001  # a step instead of a passage, as the authors' code has it
        divided = ((torch.arange(rotary_dim // 2, dtype=torch.float32) - begin) / (end - begin)).clamp(0, 1)
        plain = plain_frequencies(theta, rotary_dim)
        return torch.lerp(plain, plain / self.factor, divided)

    def _dimension_with(self, turns: float, theta: float, rotary_dim: int) -> float:
        """Which pair of dimensions turns that often within a trained text."""
        return rotary_dim * math.log(self.trained_length / (turns * 2 * math.pi)) / (2 * math.log(theta))


def yarn_amplitude(factor: float, mscale: float = 1.0) -> float:
    """`0.1 * mscale * ln(factor) + 1`: YaRN's temperature (equation 22), half on queries, half on keys."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """A model's rotary embedding: the first `rotary_dim` dimensions of a head turn, the others do not.

    Attributes:
        reach: the longest text that the scaling was made for, in tokens.
    """

    theta: float
    rotary_dim: int
    scaling: RopeScaling
    reach: int


class Rotation(NamedTuple):
    """The angles of a step's tokens, ready to multiply.

    Attributes:
        cos: [tokens, 1, rotary_dim], each cosine twice, for both dimensions of its pair.
        sin: the same for sines, those of the first half negated.
    """

    cos: Tensor
    sin: Tensor

    def apply(self, heads: Tensor) -> Tensor:
        """Turn queries or keys: [tokens, heads, head_dim] to the same shape.

        Dimension i is paired with i + rotary_dim / 2, as in the checkpoints that transformers writes.
        """
        rotary_dim = self.cos.shape[-1]
        turning = heads[..., :rotary_dim]
        turned = turning * self.cos + turning.roll(rotary_dim // 2, -1) * self.sin
        if rotary_dim == heads.shape[-1]:
            return turned
        return torch.cat((turned, heads[..., rotary_dim:]), dim=-1)


class RotaryEmbedding(nn.Module):
    """Turns positions into rotations."""

    frequencies: Tensor

    def __init__(self, config: RopeConfig, max_length: int, device: torch.device) -> None:
        super().__init__()
        frequencies = config.scaling.frequencies(config.theta, config.rotary_dim, max_length)
        self.register_buffer("frequencies", frequencies.to(device), persistent=False)
        self.amplitude = config.scaling.amplitude

    def forward(self, position_ids: Tensor, dtype: torch.dtype) -> Rotation:
        """Rotations of [tokens] positions, rounded to `dtype` as transformers does."""
        angles = position_ids.float()[:, None, None] * self.frequencies
        cos, sin = angles.cos() * self.amplitude, angles.sin() * self.amplitude
        return Rotation(torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype))
