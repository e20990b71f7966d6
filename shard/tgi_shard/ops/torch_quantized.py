"""Quantized matrices by the CPU kernels that torch brings: where ours cannot be compiled, or do not fit."""

import torch
from torch import Tensor
from torch.nn import functional

from tgi_shard.quantization.weights import INT4_GROUP, Int4Weight, Int8Weight

_INPUTS_MULTIPLE = 32
"""The eight-bit kernel for bfloat16 reads rows in whole vectors, whatever lies behind their end."""

_OUTPUTS_MULTIPLE = 16
_INNER_K_TILES = 1  # a layout choice that matters on other devices only


class TorchInt8Matrix:
    """Eight-bit weights."""

    def __init__(self, weight: Int8Weight, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._inputs = weight.shape[1]
        self._missing = -self._inputs % _INPUTS_MULTIPLE
        self._codes = functional.pad(weight.codes, (0, self._missing)) if self._missing else weight.codes
        self._scales = weight.scales.to(dtype)
        self._bias = bias

    def multiply(self, x: Tensor) -> Tensor:
        """As `Matrix.multiply`."""
        whole = functional.pad(x, (0, self._missing)) if self._missing else x
        product = torch._weight_int8pack_mm(whole.contiguous(), self._codes, self._scales)  # noqa: SLF001
        return product if self._bias is None else product + self._bias

    def rows(self, ids: Tensor) -> Tensor:
        """As `EmbeddingMatrix.rows`."""
        return self._codes[ids, : self._inputs] * self._scales[ids, None]


class TorchInt4Matrix:
    """Four-bit weights."""

    def __init__(self, weight: Int4Weight, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._outputs = len(weight.codes)
        missing = -self._outputs % _OUTPUTS_MULTIPLE
        codes = functional.pad(weight.codes, (0, 0, 0, missing)).int()
        self._packed = torch._convert_weight_to_int4pack_for_cpu(codes, _INNER_K_TILES)  # noqa: SLF001
        scales = torch.stack((weight.scales, weight.zeros), -1).to(dtype)
        self._scales_and_zeros = functional.pad(scales, (0, 0, 0, 0, 0, missing)).transpose(0, 1).contiguous()
        self._bias = bias

    def multiply(self, x: Tensor) -> Tensor:
        """As `Matrix.multiply`."""
        product = torch._weight_int4pack_mm_for_cpu(  # noqa: SLF001
            x.contiguous(), self._packed, INT4_GROUP, self._scales_and_zeros
        )[:, : self._outputs]
        return product if self._bias is None else product + self._bias
