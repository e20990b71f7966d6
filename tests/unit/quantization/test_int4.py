"""Four bits: never worse than even steps over a group's range, and better where a group has outliers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgi_shard.quantization import schemes
from tgi_shard.quantization.schemes import quantize_int4
from tgi_shard.quantization.weights import INT4_GROUP, Int4Weight, Int8Weight

SMALL = settings(max_examples=25, deadline=None)
ROUNDING = 2.0**-8
"""The most that rounding to bfloat16 changes a number, as a part of it."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def int4(weight: Tensor) -> Int4Weight:
    quantized = quantize_int4(weight)
    assert isinstance(quantized, Int4Weight)
    return quantized


def in_groups(weight: Tensor) -> Tensor:
    return weight.double().view(len(weight), -1, INT4_GROUP)


def errors(weight: Tensor) -> Tensor:
    return in_groups(int4(weight).dense()) - in_groups(weight)


def range_steps(weight: Tensor) -> Tensor:
    """The steps if 16 of them went from the least to the greatest of a group."""
    least, greatest = in_groups(weight).aminmax(dim=-1)
    return (greatest - least) / 15


def zero_roundings(weight: Tensor) -> Tensor:
    """What rounding scales and zeros to bfloat16 moves a group's weights by, at most."""
    return ROUNDING * (8 * range_steps(weight) + 2 * in_groups(weight).abs().amax(-1))


def evenly_rounded(weight: Tensor) -> Tensor:
    """Each group in 16 even steps from its least to its greatest, with exact scales and zeros."""
    groups, steps = in_groups(weight), range_steps(weight)[..., None]
    least = groups.amin(-1, keepdim=True)
    return ((groups - least) / steps).round() * steps + least


sizes = st.sampled_from([1e-12, 1e-3, 1.0, 1e12])
offsets = st.sampled_from([0.0, 0.3, -2.0])


@given(st.integers(1, 40), st.integers(1, 5), sizes, offsets, st.integers(0, 9))
@SMALL
def test_a_group_is_no_worse_than_in_even_steps_over_its_range(
    rows: int, groups: int, size: float, offset: float, seed: int
) -> None:
    weight = (random(rows, INT4_GROUP * groups, seed=seed) + offset) * size
    error = errors(weight).square().mean(-1).sqrt()
    even = (evenly_rounded(weight) - in_groups(weight)).square().mean(-1).sqrt()
    assert (error <= even + zero_roundings(weight)).all()


def test_normal_weights_are_a_tenth_nearer_than_in_even_steps_over_the_range() -> None:
    weight = random(400, 512)
    error = errors(weight).square().mean().sqrt()
    even = (evenly_rounded(weight) - in_groups(weight)).square().mean().sqrt()
    assert error < 0.92 * even


def test_one_outlier_costs_the_others_less_than_even_steps_would() -> None:
    weight = random(200, INT4_GROUP)
    weight[:, 3] *= 5
    error, even = errors(weight), evenly_rounded(weight) - in_groups(weight)
    assert error.square().mean() < 0.9 * even.square().mean()


@given(st.lists(st.integers(0, 15), min_size=INT4_GROUP, max_size=INT4_GROUP), st.integers(-4, 4))
@SMALL
def test_weights_on_sixteen_even_steps_are_exact(codes: list[int], exponent: int) -> None:
    codes[0], codes[1] = 0, 15  # the range is what it seems to be
    weight = ((torch.tensor([codes]) - 8) * 2.0**exponent).bfloat16()
    assert torch.equal(int4(weight).dense(), weight.float())


@pytest.mark.parametrize("value", [0.0, -0.0, 0.3, -7.0, 1e-38, 1e36])
def test_a_group_of_equal_weights_is_exact(value: float) -> None:
    weight = torch.full((3, 2 * INT4_GROUP), value, dtype=torch.bfloat16)
    weight[1, INT4_GROUP:] = random(INT4_GROUP)
    dense = int4(weight).dense().bfloat16()
    assert torch.equal(dense[[0, 2]], weight[[0, 2]])
    assert torch.equal(dense[1, :INT4_GROUP], weight[1, :INT4_GROUP])


@pytest.mark.parametrize("size", [1e-37, 1e-30, 1e30, 1e36])
def test_tiny_and_huge_weights_lose_no_more_than_others(size: float) -> None:
    weight = random(50, 2 * INT4_GROUP) * size
    error = errors(weight).square().mean() / in_groups(weight).square().mean()
    assert error.sqrt() < 0.09


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_group_with_weights_that_are_no_numbers_is_none_and_the_others_are_untouched(bad: float) -> None:
    weight = random(3, 3 * INT4_GROUP)
    broken = weight.clone()
    broken[1, INT4_GROUP + 5] = bad
    quantized = int4(broken)
    dense, sound = in_groups(quantized.dense()), in_groups(int4(weight).dense())
    assert not dense[1, 1].isfinite().any()
    assert int(quantized.codes.max()) <= 15
    sound[1, 1] = dense[1, 1] = 0
    assert torch.equal(dense, sound)


@given(st.integers(1, 30), st.integers(0, 29), st.integers(1, 4))
@SMALL
def test_a_group_comes_out_the_same_whatever_stands_beside_it(rows: int, row: int, groups: int) -> None:
    weight, row = random(rows, INT4_GROUP * groups), row % rows
    alone, together = int4(weight[row : row + 1]), int4(weight)
    assert torch.equal(alone.dense()[0], together.dense()[row])


def test_weights_are_quantized_piece_by_piece_and_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = random(50, 2 * INT4_GROUP)
    whole = int4(weight)
    monkeypatch.setattr(schemes, "VALUES_AT_ONCE", 7 * 2 * INT4_GROUP)
    pieces = int4(weight)
    for name in ("codes", "scales", "zeros"):
        assert torch.equal(getattr(whole, name), getattr(pieces, name))


@pytest.mark.parametrize("inputs", [1, 31, 33, 48])
def test_inputs_that_make_no_whole_groups_get_eight_bits(inputs: int) -> None:
    weight = random(5, inputs)
    quantized = quantize_int4(weight)
    assert isinstance(quantized, Int8Weight)
    assert torch.equal(quantized.codes, schemes.quantize_int8(weight).codes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_any_type_are_kept_in_codes_of_four_bits_with_bfloat16_scales(dtype: torch.dtype) -> None:
    quantized = int4(random(6, 96).to(dtype))
    assert (quantized.codes.dtype, quantized.scales.dtype) == (torch.uint8, torch.bfloat16)
    assert (quantized.shape, quantized.scales.shape, quantized.zeros.shape) == ((6, 96), (6, 3), (6, 3))
    assert int(quantized.codes.max()) == 15
    assert int(quantized.codes.min()) == 0


@pytest.mark.parametrize("shape", [(1, 32), (4, 64)])
def test_the_weights_given_are_left_as_they_were(shape: tuple[int, int]) -> None:
    weight = torch.randn(*shape)
    before = weight.clone()
    quantize_int4(weight)
    assert torch.equal(weight, before)
