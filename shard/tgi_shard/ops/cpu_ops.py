"""Operations by the C++ kernels, in bfloat16; what does not fit their vectors is left to torch."""

import torch
from torch import Tensor
from torch.nn import functional

from tgi_shard.kernels.library import CpuKernels
from tgi_shard.layers.rope import Rotation
from tgi_shard.ops.interface import EmbeddingMatrix, Matrix
from tgi_shard.ops.memory import empty_weights
from tgi_shard.ops.torch_ops import TorchOperations

LANES = 16
"""Values of a vector, and columns of a packed block."""

INNER_MULTIPLE = 32
"""Values of a matrix tile's row."""

PANEL = 2 * LANES
ACTIVATION_CODES = {"silu": 0, "swish": 0, "gelu_new": 1, "gelu_fast": 1, "gelu_pytorch_tanh": 1}


class PackedMatrix:
    """Weights in panels, see panel.h: read from memory once, front to back, per product."""

    def __init__(self, kernels: CpuKernels, weight: Tensor, bias: Tensor | None) -> None:
        self._kernels = kernels
        self._outputs, self._inputs = weight.shape
        columns = _round_up(self._outputs, PANEL)
        self._packed = empty_weights(columns * self._inputs, torch.bfloat16)
        kernels.pack(weight.data_ptr(), self._outputs, self._inputs, self._packed.data_ptr())
        self._bias = None if bias is None else functional.pad(bias, (0, columns - self._outputs))

    def multiply(self, x: Tensor) -> Tensor:
        """As `Matrix.multiply`."""
        x = x.contiguous()
        product = x.new_empty(len(x), self._outputs)
        self._kernels.linear(
            x.data_ptr(),
            len(x),
            self._inputs,
            self._packed.data_ptr(),
            None if self._bias is None else self._bias.data_ptr(),
            product.data_ptr(),
            self._outputs,
        )
        return product

    def rows(self, ids: Tensor) -> Tensor:
        """As `EmbeddingMatrix.rows`."""
        rows = self._packed.new_empty(len(ids), self._inputs)
        self._kernels.unpack_rows(
            self._packed.data_ptr(), self._inputs, ids.data_ptr(), len(ids), rows.data_ptr()
        )
        return rows


class PackedGatedMatrix:
    """Panels of 16 gates and their 16 values, activated and multiplied as they come out."""

    def __init__(self, kernels: CpuKernels, weight: Tensor, activation: int) -> None:
        self._kernels = kernels
        self._activation = activation
        self._outputs, self._inputs = len(weight) // 2, weight.shape[1]
        self._packed = empty_weights(2 * _round_up(self._outputs, LANES) * self._inputs, torch.bfloat16)
        kernels.pack_gated(weight.data_ptr(), self._outputs, self._inputs, self._packed.data_ptr())

    def multiply(self, x: Tensor) -> Tensor:
        """As `Matrix.multiply`."""
        product = x.new_empty(len(x), self._outputs)
        self._kernels.gated(
            x.data_ptr(),
            len(x),
            self._inputs,
            self._packed.data_ptr(),
            product.data_ptr(),
            self._outputs,
            self._activation,
        )
        return product


class CpuOperations:
    """Operations on bfloat16 by the kernels; the others by torch."""

    name = "cpu"

    def __init__(self, kernels: CpuKernels) -> None:
        self._kernels = kernels
        self._torch = TorchOperations()

    def matrix(self, weight: Tensor, bias: Tensor | None = None) -> EmbeddingMatrix:
        """As `Operations.matrix`."""
        if weight.shape[1] % INNER_MULTIPLE:
            return self._torch.matrix(weight, bias)
        return PackedMatrix(self._kernels, weight, bias)

    def gated_matrix(self, weight: Tensor, bias: Tensor | None, activation: str) -> Matrix:
        """As `Operations.gated_matrix`; biased ones, which no known family has, are torch's."""
        if weight.shape[1] % INNER_MULTIPLE or bias is not None or activation not in ACTIVATION_CODES:
            return self._torch.gated_matrix(weight, bias, activation)
        return PackedGatedMatrix(self._kernels, weight, ACTIVATION_CODES[activation])

    def add_norm(
        self, hidden: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """As `Operations.add_norm`; overwrites `hidden`."""
        rows, size = hidden.shape
        if size % LANES:
            return self._torch.add_norm(hidden, delta, weight, eps)
        normed = torch.empty_like(hidden)
        added = None if delta is None else delta.data_ptr()
        self._kernels.add_norm(
            hidden.data_ptr(), added, weight.data_ptr(), eps, normed.data_ptr(), rows, size
        )
        return hidden, normed

    def norm_heads(self, heads: Tensor, weight: Tensor, eps: float) -> Tensor:
        """As `Operations.norm_heads`; overwrites `heads`."""
        tokens, count, head_dim = heads.shape
        if head_dim % LANES:
            return self._torch.norm_heads(heads, weight, eps)
        self._kernels.norm_heads(
            heads.data_ptr(), heads.stride(0), tokens, count, head_dim, weight.data_ptr(), eps
        )
        return heads

    def rotate(self, heads: Tensor, rotation: Rotation) -> Tensor:
        """As `Operations.rotate`; overwrites `heads`."""
        tokens, count, head_dim = heads.shape
        half = rotation.cos.shape[-1] // 2
        if half % LANES:
            return self._torch.rotate(heads, rotation)
        self._kernels.rotate(
            heads.data_ptr(),
            heads.stride(0),
            tokens,
            count,
            head_dim,
            rotation.cos.data_ptr(),
            rotation.sin.data_ptr(),
            half,
        )
        return heads

    def greedy(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """As `Operations.greedy`."""
        rows, vocabulary = logits.shape
        tokens = torch.empty(rows, dtype=torch.int64)
        logprobs = torch.empty(rows, dtype=torch.float32)
        self._kernels.greedy(
            logits.data_ptr(), logits.stride(0), rows, vocabulary, tokens.data_ptr(), logprobs.data_ptr()
        )
        return tokens, logprobs


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
