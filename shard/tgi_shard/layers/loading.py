"""Reads this rank's part of a checkpoint's tensors into tensors of its own, and checks their shapes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tgi_shard.layers.partition import Span
from tgi_shard.weights import WeightsError


class Weights(Protocol):
    """A checkpoint's tensors by name, on the device and in the type the model computes in."""

    def names(self) -> Collection[str]:
        """Names of all tensors."""

    def __contains__(self, name: object) -> bool: ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The whole tensor's shape; WeightsError if there is no such tensor."""

    def get(self, name: str) -> Tensor:
        """The whole tensor; WeightsError if there is no such tensor."""

    def get_shard(self, name: str, dim: int, start: int, stop: int) -> Tensor:
        """Indices `start` to `stop` (exclusive) along `dim`, reading no more than those."""


@dataclass(frozen=True, slots=True)
class Part:
    """The rows (or columns) that a rank needs of one tensor."""

    name: str
    span: Span


class WeightLoader:
    """Copies parts of tensors into tensors of this process.

    The copies outlive the checkpoint's files and lie aligned in memory. A merged tensor is filled in place:
    loading never holds more than one part twice.

    Attributes:
        read: names of all tensors that were asked for.
    """

    def __init__(self, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        self._weights = weights
        self._device = device
        self._dtype = dtype
        self.read: set[str] = set()

    def whole(self, name: str, shape: Sequence[int]) -> Tensor:
        """A tensor that every rank holds in full.

        Raises:
            WeightsError: it is missing, or has another shape.
        """
        self._check(name, shape)
        own = torch.empty(*shape, dtype=self._dtype, device=self._device)
        return own.copy_(_numbers(name, self._weights.get(name)))

    def rows(self, parts: Sequence[Part], *columns: int, padded_rows: int = 0) -> Tensor:
        """Rows of one or more tensors below each other: [sum of rows, *columns].

        Args:
            parts: tensors of shape [span.total, *columns], and which rows of them.
            columns: the other dimensions.
            padded_rows: append zeros to reach at least this many rows.

        Raises:
            WeightsError: one is missing, or has another shape.
        """
        for part in parts:  # all of them first: a wrong size is refused before memory is asked for it
            self._check(part.name, (part.span.total, *columns))
        filled = sum(part.span.size for part in parts)
        own = torch.empty(max(filled, padded_rows), *columns, dtype=self._dtype, device=self._device)
        own[filled:].zero_()
        start = 0
        for name, span in ((part.name, part.span) for part in parts):
            rows = self._weights.get_shard(name, 0, span.start, span.stop)
            own[start : start + span.size].copy_(_numbers(name, rows))
            start += span.size
        return own

    def columns(self, part: Part, rows: int) -> Tensor:
        """Columns of a matrix of shape [rows, span.total]: [rows, span.size].

        Raises:
            WeightsError: it is missing, or has another shape.
        """
        span = part.span
        self._check(part.name, (rows, span.total))
        own = torch.empty(rows, span.size, dtype=self._dtype, device=self._device)
        columns = self._weights.get_shard(part.name, 1, span.start, span.stop)
        return own.copy_(_numbers(part.name, columns))

    def _check(self, name: str, expected: Sequence[int]) -> None:
        self.read.add(name)
        if name not in self._weights:
            raise WeightsError(f"the checkpoint has no tensor {name} (expected shape {list(expected)})")
        found = self._weights.shape(name)
        if tuple(found) != tuple(expected):
            raise WeightsError(
                f"tensor {name} has shape {list(found)}, but config.json asks for {list(expected)}"
            )


def _numbers(name: str, tensor: Tensor) -> Tensor:
    """The tensor, if its numbers are the weights themselves.

    Raises:
        WeightsError: it is of a type that only quantized checkpoints store weights in.
    """
    if not tensor.is_floating_point():
        raise WeightsError(
            f"tensor {name} holds whole numbers ({tensor.dtype}), as in quantized checkpoints, which are not "
            "supported yet"
        )
    return tensor
