"""From the weights of a checkpoint to the matrices that layers multiply with."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tgi_shard.ops.interface import Matrix, Operations
from tgi_shard.quantization.weights import Weight


@dataclass(frozen=True, slots=True)
class MatrixMaker:
    """Quantizes weights as asked for, and packs them for the operations that multiply.

    Attributes:
        quantize: [outputs, inputs] weights to the form they are kept in.
        operations: multiply.
    """

    quantize: Callable[[Tensor], Weight]
    operations: Operations

    def make(self, weight: Tensor, bias: Tensor | None = None) -> Matrix:
        """As `Operations.matrix`."""
        return self.operations.matrix(self.quantize(weight), bias)

    def make_gated(self, weight: Tensor, bias: Tensor | None, activation: str) -> Matrix:
        """As `Operations.gated_matrix`."""
        return self.operations.gated_matrix(self.quantize(weight), bias, activation)
