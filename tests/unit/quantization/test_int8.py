"""Eight bits: half a step is the most that a weight is off, whatever the weights are."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgi_shard.quantization import schemes
from tgi_shard.quantization.schemes import quantize_int8

SMALL = settings(max_examples=25, deadline=None)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def assert_within_half_a_step(weight: Tensor) -> None:
    quantized = quantize_int8(weight)
    step = weight.double().abs().amax(1, keepdim=True) / 127
    error = (quantized.dense().double() - weight.double()).abs()
    assert (error <= step * (0.5 + 127 * 2.0**-23)).all()


@given(st.integers(1, 40), st.integers(1, 100), st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), st.integers(0, 9))
@SMALL
def test_a_weight_is_off_by_half_a_step_at_most(rows: int, inputs: int, size: float, seed: int) -> None:
    assert_within_half_a_step(random(rows, inputs, seed=seed) * size)


def test_each_output_has_steps_of_its_own() -> None:
    sizes = torch.tensor([1e-20, 1.0, 1e20], dtype=torch.bfloat16)[:, None]
    assert_within_half_a_step(random(3, 64) * sizes)


def test_the_greatest_numbers_do_not_overflow() -> None:
    greatest = torch.finfo(torch.bfloat16).max
    weight = torch.tensor([[greatest, -greatest, 0, greatest / 2]], dtype=torch.bfloat16)
    assert_within_half_a_step(weight)


def test_zeros_and_the_greatest_of_an_output_are_exact() -> None:
    weight = torch.zeros(3, 40, dtype=torch.bfloat16)
    weight[1, 7], weight[2] = -0.3, 0.7
    assert torch.equal(quantize_int8(weight).dense().bfloat16(), weight)
    assert (quantize_int8(weight).scales[0] == 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_output_with_weights_that_are_no_numbers_is_none_and_the_others_are_untouched(bad: float) -> None:
    weight = random(4, 64)
    broken = weight.clone()
    broken[2, 5] = bad
    dense = quantize_int8(broken).dense()
    others = [0, 1, 3]
    assert not dense[2].isfinite().any()
    assert torch.equal(dense[others], quantize_int8(weight).dense()[others])


def test_weights_are_quantized_piece_by_piece_and_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = random(50, 48)
    whole = quantize_int8(weight)
    monkeypatch.setattr(schemes, "VALUES_AT_ONCE", 7 * 48)
    pieces = quantize_int8(weight)
    assert torch.equal(whole.codes, pieces.codes)
    assert torch.equal(whole.scales, pieces.scales)


def test_a_row_longer_than_a_piece_is_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemes, "VALUES_AT_ONCE", 10)
    assert_within_half_a_step(random(3, 48))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_any_type_are_kept_in_eight_bits_with_float32_scales(dtype: torch.dtype) -> None:
    quantized = quantize_int8(random(6, 20).to(dtype))
    assert (quantized.codes.dtype, quantized.scales.dtype) == (torch.int8, torch.float32)
    assert (quantized.shape, quantized.scales.shape) == ((6, 20), (6,))
