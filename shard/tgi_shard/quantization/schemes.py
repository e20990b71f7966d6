"""How weights are quantized, as `--quantize` asks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tgi_common.choices import Quantization
from tgi_shard.quantization.weights import INT4_GROUP, Int4Weight, Int8Weight, Weight

VALUES_AT_ONCE = 2**22
"""Weights that are quantized at a time: float32 copies of a whole vocabulary would take gigabytes."""


class QuantizationError(ValueError):
    """The weights cannot be kept as asked for."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What becomes of a model's matrices; embeddings that are no head stay as they are.

    Attributes:
        layers: for those of attention and MLP.
        head: for the output head.
    """

    layers: Callable[[Tensor], Weight]
    head: Callable[[Tensor], Tensor | Int8Weight]


def keep(weight: Tensor) -> Tensor:
    """Leave the weights in the model's type."""
    return weight


def quantize_int8(weight: Tensor) -> Int8Weight:
    """Round each output's weights to 255 even steps around zero.

    Args:
        weight: [outputs, inputs].
    """
    parts = [_int8_rows(rows.float()) for rows in _pieces(weight)]
    return Int8Weight(*(torch.cat(part) for part in zip(*parts, strict=True)))


def quantize_int4(weight: Tensor) -> Int4Weight | Int8Weight:
    """Round each 32 weights to 16 even steps from the least to the greatest of them.

    Args:
        weight: [outputs, inputs]; where inputs are no multiple of 32 they get eight bits instead.
    """
    if weight.shape[1] % INT4_GROUP:
        return quantize_int8(weight)
    parts = [_int4_rows(rows.float()) for rows in _pieces(weight)]
    return Int4Weight(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _pieces(weight: Tensor) -> Iterator[Tensor]:
    yield from torch.split(weight, max(1, VALUES_AT_ONCE // weight.shape[1]))


def _int8_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    scales = rows.abs().amax(1) / 127
    codes = (rows / _divisible(scales)[:, None]).round_().to(torch.int8)
    return codes, scales


def _int4_rows(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    groups = rows.view(len(rows), -1, INT4_GROUP)
    least, greatest = groups.aminmax(dim=-1)
    scales = ((greatest - least) / 15).bfloat16()
    zeros = (least + 8 * scales.float()).bfloat16()
    steps = (groups - zeros[..., None].float()) / _divisible(scales.float())[..., None]
    codes = (steps.round_() + 8).clamp_(0, 15).to(torch.uint8)
    return codes.flatten(1), scales, zeros


def _divisible(scales: Tensor) -> Tensor:
    """Ones for zeros: a group of equal weights has no steps."""
    return torch.where(scales == 0, 1.0, scales)


UNQUANTIZED = Scheme(layers=keep, head=keep)
INT8 = Scheme(layers=quantize_int8, head=quantize_int8)
# The head decides between tokens and often embeds them too: four bits would cost most there.
INT4 = Scheme(layers=quantize_int4, head=quantize_int8)

SCHEMES = {
    Quantization.INT8: INT8,
    Quantization.INT4: INT4,
    Quantization.EETQ: INT8,
    Quantization.BITSANDBYTES: INT8,
    Quantization.BITSANDBYTES_NF4: INT4,
    Quantization.BITSANDBYTES_FP4: INT4,
}


def choose_scheme(quantization: Quantization | None, device: torch.device) -> Scheme:
    """The scheme of this name.

    Raises:
        QuantizationError: the device does not multiply with such weights.
    """
    if quantization is None:
        return UNQUANTIZED
    if device.type != "cpu":
        raise QuantizationError(f"--quantize {quantization} works on CPUs only, this device is {device}")
    return SCHEMES[quantization]
