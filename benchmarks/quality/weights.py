"""Looks at matrices as they are quantized: what they take, and how far they are from the checkpoint's."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from tgi_shard.quantization.schemes import Scheme
from tgi_shard.quantization.weights import Int4Weight, Int8Weight, Weight

_W = TypeVar("_W", bound=Weight)


class WeightMeter:
    """Adds up what a scheme makes of a model's matrices.

    Attributes:
        values: weights in them.
        bytes: what they take.
    """

    def __init__(self) -> None:
        self.values = 0
        self.bytes = 0
        self._squares = 0.0
        self._squared_errors = 0.0

    @property
    def error(self) -> float:
        """Root of the mean squared error, as a part of the weights' own root mean square."""
        return float((self._squared_errors / self._squares) ** 0.5)

    def watch(self, scheme: Scheme) -> Scheme:
        """The same scheme, looked at while it works."""
        return Scheme(scheme.name, layers=self._watched(scheme.layers), head=self._watched(scheme.head))

    def _watched(self, quantize: Callable[[Tensor], _W]) -> Callable[[Tensor], _W]:
        def watched(weight: Tensor) -> _W:
            quantized = quantize(weight)
            self._add(weight, quantized)
            return quantized

        return watched

    def _add(self, weight: Tensor, quantized: Weight) -> None:
        match quantized:
            case Int8Weight(codes, scales):
                stored, dense = codes.nbytes + scales.nbytes, quantized.dense()
            case Int4Weight(codes, scales, zeros):
                stored, dense = codes.numel() // 2 + scales.nbytes + zeros.nbytes, quantized.dense()
            case dense:
                stored = dense.nbytes
        self.values += weight.numel()
        self.bytes += stored
        self._squares += float(weight.float().square().sum())
        self._squared_errors += float((dense - weight).square().sum())
