"""What each name that `--quantize` takes makes of a model."""

import pytest
import torch
from structlog.testing import capture_logs

from tgi_common.choices import Quantization
from tgi_shard.quantization import schemes
from tgi_shard.quantization.schemes import (
    INT4,
    INT8,
    UNQUANTIZED,
    QuantizationError,
    Scheme,
    choose_scheme,
)
from tgi_shard.quantization.weights import Int4Weight, Int8Weight
from unit.kernels.variants import computing_threads

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("quantization", "scheme"),
    [
        (Quantization.INT8, INT8),
        (Quantization.EETQ, INT8),
        (Quantization.BITSANDBYTES, INT8),
        (Quantization.INT4, INT4),
        (Quantization.BITSANDBYTES_NF4, INT4),
        (Quantization.BITSANDBYTES_FP4, INT4),
        (None, UNQUANTIZED),
    ],
)
def test_each_name_stands_for_eight_bits_or_four(quantization: Quantization | None, scheme: Scheme) -> None:
    assert choose_scheme(quantization, CPU) is scheme


def test_every_name_has_a_scheme() -> None:
    for quantization in Quantization:
        assert choose_scheme(quantization, CPU) in (INT8, INT4)


def test_a_line_is_logged_before_the_weights_are_quantized() -> None:
    with capture_logs() as lines:
        choose_scheme(Quantization.BITSANDBYTES_NF4, CPU)
    (line,) = lines
    assert "quantized while they load" in line["event"]
    assert (line["quantize"], line["scheme"]) == ("bitsandbytes-nf4", "int4, the head int8")


def test_nothing_is_logged_where_nothing_is_quantized() -> None:
    with capture_logs() as lines:
        choose_scheme(None, CPU)
    assert lines == []


def test_other_devices_are_refused_by_name() -> None:
    with pytest.raises(QuantizationError, match="--quantize int4 works on CPUs only, this device is cuda:1"):
        choose_scheme(Quantization.INT4, torch.device("cuda", 1))


def test_a_head_has_eight_bits_at_least() -> None:
    weight = torch.ones(40, 64)
    assert isinstance(INT4.layers(weight), Int4Weight)
    assert isinstance(INT4.head(weight), Int8Weight)
    assert isinstance(INT8.layers(weight), Int8Weight)
    assert isinstance(INT8.head(weight), Int8Weight)
    assert UNQUANTIZED.layers(weight) is weight
    assert UNQUANTIZED.head(weight) is weight


@torch.inference_mode()
def test_weights_are_quantized_in_inference_mode_too() -> None:
    weight = torch.randn(40, 64)
    for quantize in (schemes.quantize_int8, schemes.quantize_int4):
        assert torch.allclose(quantize(weight).dense(), weight, atol=0.3)


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads_makes_the_same_weights_and_stays_as_it_was(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemes, "VALUES_AT_ONCE", 256)
    weight = torch.randn(40, 64)
    quantizers = (schemes.quantize_int8, schemes.quantize_int4)
    dense = [quantize(weight).dense() for quantize in quantizers]
    with computing_threads(threads):
        again = [quantize(weight).dense() for quantize in quantizers]
        assert torch.get_num_threads() == threads
    assert all(map(torch.equal, dense, again))


def test_the_number_of_threads_stays_as_it_was_if_quantizing_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(rows: torch.Tensor) -> None:
        raise MemoryError

    monkeypatch.setattr(schemes, "fit_groups", fail)
    with computing_threads(3):
        with pytest.raises(MemoryError):
            schemes.quantize_int4(torch.randn(40, 64))
        assert torch.get_num_threads() == 3
