"""Operations by the C++ kernels, in bfloat16; what does not fit their vectors is left to torch."""

from ctypes import pointer

import torch
from torch import Tensor
from torch.nn import functional

from tgi_shard.kernels import calls
from tgi_shard.kernels.calls import (
    GreedyCall,
    HeadNormCall,
    LinearCall,
    MatrixFormat,
    NormCall,
    PackCall,
    RotationCall,
    RowsCall,
)
from tgi_shard.kernels.library import CpuKernels, Kernel
from tgi_shard.layers.rope import Rotation
from tgi_shard.ops.interface import EmbeddingMatrix, Matrix
from tgi_shard.ops.memory import empty_weights
from tgi_shard.ops.torch_ops import GatedMatrix, TorchOperations
from tgi_shard.quantization.weights import Int4Weight, Int8Weight, Weight

LANES = 16
"""Values of a vector, and columns of a packed block."""

INNER_MULTIPLE = 32
"""Values of a matrix tile's row."""

PANEL = 2 * LANES
GATED_KERNELS = {
    "silu": Kernel.GATED_SILU,
    "swish": Kernel.GATED_SILU,
    "gelu_new": Kernel.GATED_GELU_TANH,
    "gelu_fast": Kernel.GATED_GELU_TANH,
    "gelu_pytorch_tanh": Kernel.GATED_GELU_TANH,
}


class PackedMatrix:
    """Weights in panels, see panel.h: read from memory once, front to back, per product."""

    def __init__(self, kernels: CpuKernels, weight: Weight, bias: Tensor | None = None) -> None:
        self._kernels = kernels
        self._outputs, self._inputs = weight.shape
        padding = -self._outputs % PANEL
        count = (self._outputs + padding) * self._inputs
        self._scales: Tensor | None = None
        match weight:
            case Int8Weight():
                self._values = empty_weights(count, torch.int8)
                self._scales = functional.pad(weight.scales, (0, padding))
                source, pack, form = weight.codes, Kernel.PACK_INT8, MatrixFormat.INT8
            case Int4Weight():
                self._values = empty_weights(count // 2, torch.uint8)
                self._scales = _pack_scales(weight, padding)
                source, pack, form = weight.codes, Kernel.PACK_INT4, MatrixFormat.INT4
            case dense:
                self._values = empty_weights(count, torch.bfloat16)
                source, pack, form = dense, Kernel.PACK_BF16, MatrixFormat.BF16
        source, target = source.contiguous(), self._values.data_ptr()
        kernels.call(pack, PackCall(source.data_ptr(), self._outputs, self._inputs, target))
        self._bias = None if bias is None else functional.pad(bias, (0, padding))
        # Addresses into the tensors above, which live as long as this object.
        matrix = calls.Matrix(
            target,
            None if self._scales is None else self._scales.data_ptr(),
            None if self._bias is None else self._bias.data_ptr(),
            self._outputs,
            self._inputs,
            form,
        )
        self._matrix = pointer(matrix)

    def multiply(self, x: Tensor) -> Tensor:
        """As `Matrix.multiply`."""
        return self._multiply(Kernel.LINEAR, x, self._outputs)

    def multiply_gated(self, x: Tensor, activation: Kernel) -> Tensor:
        """As `Matrix.multiply` for panels of 16 gates and their 16 values, activated and multiplied."""
        return self._multiply(activation, x, self._outputs // 2)

    def rows(self, ids: Tensor) -> Tensor:
        """As `EmbeddingMatrix.rows`; not for four-bit weights."""
        rows = self._kernels.empty(len(ids), self._inputs)
        call = RowsCall(self._matrix, ids.data_ptr(), len(ids), rows.data_ptr())
        self._kernels.call(Kernel.UNPACK_ROWS, call)
        return rows

    def _multiply(self, kernel: Kernel, x: Tensor, outputs: int) -> Tensor:
        if not x.is_contiguous():
            x = x.contiguous()
        product = self._kernels.empty(len(x), outputs)
        self._kernels.call(kernel, LinearCall(self._matrix, x.data_ptr(), len(x), product.data_ptr()))
        return product


class PackedGatedMatrix:
    """A gated MLP's first half, whose products never reach the memory."""

    def __init__(self, matrix: PackedMatrix, activation: Kernel) -> None:
        self._matrix = matrix
        self._activation = activation

    def multiply(self, x: Tensor) -> Tensor:
        """As `Matrix.multiply`."""
        return self._matrix.multiply_gated(x, self._activation)


class CpuOperations:
    """Operations on bfloat16 by the kernels; the others by torch."""

    name = "cpu"

    def __init__(self, kernels: CpuKernels) -> None:
        self._kernels = kernels
        self._torch = TorchOperations(torch.bfloat16)

    def matrix(self, weight: Weight, bias: Tensor | None = None) -> Matrix:
        """As `Operations.matrix`."""
        if weight.shape[1] % INNER_MULTIPLE:
            return self._torch.matrix(weight, bias)
        return PackedMatrix(self._kernels, weight, bias)

    def embedding_matrix(self, weight: Tensor | Int8Weight) -> EmbeddingMatrix:
        """As `Operations.embedding_matrix`."""
        if weight.shape[1] % INNER_MULTIPLE:
            return self._torch.embedding_matrix(weight)
        return PackedMatrix(self._kernels, weight)

    def gated_matrix(self, weight: Weight, bias: Tensor | None, activation: str) -> Matrix:
        """As `Operations.gated_matrix`; biased ones, which no known family has, are torch's."""
        outputs, inputs = weight.shape
        fits = inputs % INNER_MULTIPLE == 0 and outputs % PANEL == 0
        if not fits or bias is not None or activation not in GATED_KERNELS:
            return GatedMatrix(self.matrix(weight, bias), activation)
        packed = PackedMatrix(self._kernels, _interleave(weight))
        return PackedGatedMatrix(packed, GATED_KERNELS[activation])

    def add_norm(
        self, hidden: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """As `Operations.add_norm`; overwrites `hidden`."""
        rows, size = hidden.shape
        if size % LANES:
            return self._torch.add_norm(hidden, delta, weight, eps)
        normed = self._kernels.empty(rows, size)
        added = None if delta is None else delta.data_ptr()
        call = NormCall(hidden.data_ptr(), added, weight.data_ptr(), normed.data_ptr(), rows, size, eps)
        self._kernels.call(Kernel.ADD_NORM, call)
        return hidden, normed

    def norm_heads(self, heads: Tensor, weight: Tensor, eps: float) -> Tensor:
        """As `Operations.norm_heads`; overwrites `heads`."""
        tokens, count, head_dim = heads.shape
        if head_dim % LANES:
            return self._torch.norm_heads(heads, weight, eps)
        call = HeadNormCall(
            heads.data_ptr(), heads.stride(0), tokens, count, head_dim, weight.data_ptr(), eps
        )
        self._kernels.call(Kernel.NORM_HEADS, call)
        return heads

    def rotate(self, heads: Tensor, rotation: Rotation) -> Tensor:
        """As `Operations.rotate`; overwrites `heads`."""
        tokens, count, head_dim = heads.shape
        half = rotation.cos.shape[-1] // 2
        if half % LANES:
            return self._torch.rotate(heads, rotation)
        call = RotationCall(
            heads.data_ptr(),
            heads.stride(0),
            tokens,
            count,
            head_dim,
            rotation.cos.data_ptr(),
            rotation.sin.data_ptr(),
            half,
        )
        self._kernels.call(Kernel.ROTATE, call)
        return heads

    def greedy(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """As `Operations.greedy`."""
        rows, vocabulary = logits.shape
        tokens = torch.empty(rows, dtype=torch.int64)
        logprobs = torch.empty(rows, dtype=torch.float32)
        call = GreedyCall(
            logits.data_ptr(), logits.stride(0), rows, vocabulary, tokens.data_ptr(), logprobs.data_ptr()
        )
        self._kernels.call(Kernel.GREEDY, call)
        return tokens, logprobs


def _interleave(weight: Weight) -> Weight:
    """Rows of gates above those of values become 16 gates, their 16 values, and so on."""
    if isinstance(weight, Int8Weight):
        return Int8Weight(_interleave_rows(weight.codes), _interleave_rows(weight.scales))
    if isinstance(weight, Int4Weight):
        return Int4Weight(*map(_interleave_rows, (weight.codes, weight.scales, weight.zeros)))
    return _interleave_rows(weight)


def _interleave_rows(rows: Tensor) -> Tensor:
    inner = len(rows) // 2
    return rows.view(2, inner // LANES, LANES, -1).transpose(0, 1).reshape(rows.shape)


def _pack_scales(weight: Int4Weight, padding: int) -> Tensor:
    """[blocks, groups, 2, 16]: the scales of a block's columns, then their zeros, group by group."""
    both = functional.pad(torch.stack((weight.scales, weight.zeros), -1), (0, 0, 0, 0, 0, padding))
    blocks = both.view(-1, LANES, *both.shape[1:])
    return blocks.permute(0, 2, 3, 1).contiguous()
