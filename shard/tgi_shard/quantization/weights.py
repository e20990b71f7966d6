"""What a quantized weight matrix is, before anything packs it for its products."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

INT4_GROUP = 32
"""Inputs that share a scale."""


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """`codes * scales`: a scale for each output.

    Attributes:
        codes: [outputs, inputs] int8.
        scales: [outputs] float32.
    """

    codes: Tensor
    scales: Tensor

    @property
    def shape(self) -> torch.Size:
        """[outputs, inputs]."""
        return self.codes.shape

    def dense(self) -> Tensor:
        """The weights it stands for: [outputs, inputs] float32."""
        return self.codes * self.scales[:, None]


@dataclass(frozen=True, slots=True)
class Int4Weight:
    """`(codes - 8) * scales + zeros`, the last two for groups of 32 inputs of an output.

    Attributes:
        codes: [outputs, inputs] uint8, 0 to 15.
        scales: [outputs, inputs / 32] bfloat16.
        zeros: the same: what a code of 8 stands for.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor

    @property
    def shape(self) -> torch.Size:
        """[outputs, inputs]."""
        return self.codes.shape

    def dense(self) -> Tensor:
        """The weights it stands for: [outputs, inputs] float32."""
        groups = self.codes.view(len(self.codes), -1, INT4_GROUP).float() - 8
        weights = groups * self.scales[..., None].float() + self.zeros[..., None].float()
        return weights.flatten(1)


Weight: TypeAlias = Tensor | Int8Weight | Int4Weight
"""A weight matrix in any of its forms: [outputs, inputs]."""
