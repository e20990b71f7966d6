"""Operations by torch: the reference, on every device and in every type."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tgi_shard.layers.activation import ACTIVATIONS
from tgi_shard.layers.rope import Rotation
from tgi_shard.ops.interface import EmbeddingMatrix, Matrix
from tgi_shard.ops.torch_quantized import TorchInt4Matrix, TorchInt8Matrix
from tgi_shard.quantization.weights import Int4Weight, Int8Weight, Weight
from tgi_shard.sampling.greedy import torch_greedy


class TorchMatrix(nn.Module):
    """Weights as they are: [outputs, inputs]."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def multiply(self, x: Tensor) -> Tensor:
        """As `Matrix.multiply`."""
        return functional.linear(x, self.weight, self.bias)

    def rows(self, ids: Tensor) -> Tensor:
        """As `EmbeddingMatrix.rows`."""
        return functional.embedding(ids, self.weight)


class GatedMatrix(nn.Module):
    """A gated MLP's first half, of a matrix that answers gates and values side by side."""

    def __init__(self, gate_up: Matrix, activation: str) -> None:
        super().__init__()
        self.gate_up = gate_up
        self.activation = ACTIVATIONS[activation]

    def multiply(self, x: Tensor) -> Tensor:
        """As `Matrix.multiply`."""
        gate, up = self.gate_up.multiply(x).chunk(2, dim=-1)
        return self.activation(gate) * up


class TorchOperations:
    """The operations that run anywhere."""

    name = "torch"

    def __init__(self, dtype: torch.dtype) -> None:
        """Compute in `dtype`."""
        self._dtype = dtype

    def matrix(self, weight: Weight, bias: Tensor | None = None) -> Matrix:
        """As `Operations.matrix`."""
        match weight:
            case Int8Weight():
                return TorchInt8Matrix(weight, bias, self._dtype)
            case Int4Weight():
                return TorchInt4Matrix(weight, bias, self._dtype)
            case dense:
                return TorchMatrix(dense, bias)

    def embedding_matrix(self, weight: Tensor | Int8Weight) -> EmbeddingMatrix:
        """As `Operations.embedding_matrix`."""
        if isinstance(weight, Int8Weight):
            return TorchInt8Matrix(weight, None, self._dtype)
        return TorchMatrix(weight)

    def gated_matrix(self, weight: Weight, bias: Tensor | None, activation: str) -> GatedMatrix:
        """As `Operations.gated_matrix`."""
        return GatedMatrix(self.matrix(weight, bias), activation)

    def add_norm(
        self, hidden: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """As `Operations.add_norm`."""
        if delta is not None:
            hidden = hidden + delta
        return hidden, self.norm_heads(hidden, weight, eps)

    def norm_heads(self, heads: Tensor, weight: Tensor, eps: float) -> Tensor:
        """As `Operations.norm_heads`.

        The mean is taken in float32, and the result rounded to the input's type before it is scaled: where
        transformers rounds too, so that both give the same bits.
        """
        wide = heads.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        return weight * wide.to(heads.dtype)

    def rotate(self, heads: Tensor, rotation: Rotation) -> Tensor:
        """As `Operations.rotate`."""
        return rotation.apply(heads)

    def greedy(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """As `Operations.greedy`."""
        return torch_greedy(logits)
