"""How weights are quantized, as `--quantize` asks."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog
import torch
from torch import Tensor

from tgi_common.choices import Quantization
from tgi_shard.quantization.groups import divisible, fit_groups
from tgi_shard.quantization.weights import INT4_GROUP, Int4Weight, Int8Weight, Weight

log = structlog.get_logger(__name__)

VALUES_AT_ONCE = 2**19
"""Weights that a thread quantizes at a time: fewer are overhead, more no longer fit a processor's cache."""


class QuantizationError(ValueError):
    """The weights cannot be kept as asked for."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What becomes of a model's matrices; embeddings that are no head stay as they are.

    Attributes:
        name: for the log.
        layers: for those of attention and MLP.
        head: for the output head.
    """

    name: str
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
    quantized = Int8Weight(
        codes=torch.empty(weight.shape, dtype=torch.int8), scales=torch.empty(weight.shape[0])
    )
    _fill(_int8_rows, weight, quantized.codes, quantized.scales)
    return quantized


def _int8_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    scales = rows.abs().amax(1) / 127
    codes = (rows / divisible(scales)[:, None]).round_().to(torch.int8)
    return codes, scales


def quantize_int4(weight: Tensor) -> Int4Weight | Int8Weight:
    """Round each 32 weights to 16 even steps, see `fit_groups`.

    Args:
        weight: [outputs, inputs]; where inputs are no multiple of 32 they get eight bits instead.
    """
    outputs, inputs = weight.shape
    if inputs % INT4_GROUP:
        return quantize_int8(weight)
    groups = (outputs, inputs // INT4_GROUP)
    quantized = Int4Weight(
        codes=torch.empty(weight.shape, dtype=torch.uint8),
        scales=torch.empty(groups, dtype=torch.bfloat16),
        zeros=torch.empty(groups, dtype=torch.bfloat16),
    )
    _fill(fit_groups, weight, quantized.codes, quantized.scales, quantized.zeros)
    return quantized


def _fill(quantize: Callable[[Tensor], Iterable[Tensor]], weight: Tensor, *results: Tensor) -> None:
    """Quantize some rows at a time into those of `results`, on as many threads as torch computes with.

    Each thread computes alone: torch's own wait for each other after every operation, which takes minutes
    where another process wants a processor too.
    """

    @torch.inference_mode()  # a thread's own, whatever the caller's
    def fill(rows: Tensor, *places: Tensor) -> None:
        # What a thread allocates is not given back by its allocator: nothing large, and nothing that stays.
        for place, part in zip(places, quantize(rows.float()), strict=True):
            place.copy_(part)

    count = max(1, VALUES_AT_ONCE // weight.shape[1])
    pieces = (torch.split(each, count) for each in (weight, *results))
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(fill, *pieces))
    finally:
        torch.set_num_threads(threads)  # the workers set it for threads to come, too


UNQUANTIZED = Scheme("unquantized", layers=keep, head=keep)
INT8 = Scheme("int8", layers=quantize_int8, head=quantize_int8)
# The head decides between tokens and often embeds them too: four bits would cost most there.
INT4 = Scheme("int4, the head int8", layers=quantize_int4, head=quantize_int8)

SCHEMES = {
    Quantization.INT8: INT8,
    Quantization.INT4: INT4,
    Quantization.EETQ: INT8,
    Quantization.BITSANDBYTES: INT8,
    Quantization.BITSANDBYTES_NF4: INT4,
    Quantization.BITSANDBYTES_FP4: INT4,
}


def choose_scheme(quantization: Quantization | None, device: torch.device) -> Scheme:
    """The scheme of this name; says that it will take time.

    Raises:
        QuantizationError: the device does not multiply with such weights.
    """
    if quantization is None:
        return UNQUANTIZED
    if device.type != "cpu":
        raise QuantizationError(f"--quantize {quantization} works on CPUs only, this device is {device}")
    scheme = SCHEMES[quantization]
    log.info(
        "the weights are quantized while they load: some seconds for each billion of them",
        quantize=quantization.value,
        scheme=scheme.name,
    )
    return scheme
