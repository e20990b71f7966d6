"""Products with quantized weights by torch's packed kernels: what the weights that they stand for give."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgi_shard.ops.torch_ops import TorchOperations
from tgi_shard.quantization.schemes import quantize_int4, quantize_int8
from tgi_shard.quantization.weights import Int4Weight, Int8Weight

Quantize = Callable[[int, int], Int8Weight | Int4Weight]
SMALL = settings(max_examples=25, deadline=None)
ROUNDINGS = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-20}
"""The most that rounding to a type changes a number, as a part of it; for float32, what sums add to that."""

dtypes = st.sampled_from(list(ROUNDINGS))
row_counts = st.integers(1, 70)
output_counts = st.integers(1, 150)
four_bit_inputs = st.sampled_from([32, 64, 96, 480, 1056])
eight_bit_inputs = st.one_of(four_bit_inputs, st.sampled_from([1, 8, 31, 33, 50]))


def random(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def int8(outputs: int, inputs: int) -> Int8Weight:
    return quantize_int8(random(outputs, inputs, seed=1) * inputs**-0.5)


def int4(outputs: int, inputs: int) -> Int4Weight:
    quantized = quantize_int4(random(outputs, inputs, seed=1) * inputs**-0.5)
    assert isinstance(quantized, Int4Weight)
    return quantized


def assert_near(product: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Weights, or their scales, are rounded to the type computed in; so are the products."""
    assert product.dtype is x.dtype
    exact = x.double() @ weight.double().T
    biased = exact if bias is None else exact + bias.double()
    parts = x.double().abs() @ weight.double().abs().T
    near = ROUNDINGS[x.dtype] * (exact.abs() + biased.abs() + parts)
    assert ((product.double() - biased).abs() <= near).all()


@given(row_counts, output_counts, eight_bit_inputs, st.booleans(), dtypes)
@SMALL
def test_eight_bit_weights_multiply_as_the_weights_that_they_stand_for(
    rows: int, outputs: int, inputs: int, with_bias: bool, dtype: torch.dtype
) -> None:
    x, weight = random(rows, inputs, dtype=dtype), int8(outputs, inputs)
    bias = random(outputs, dtype=dtype, seed=2) if with_bias else None
    assert_near(TorchOperations(dtype).matrix(weight, bias).multiply(x), x, weight.dense(), bias)


@given(row_counts, output_counts, four_bit_inputs, st.booleans(), dtypes)
@SMALL
def test_four_bit_weights_multiply_as_the_weights_that_they_stand_for(
    rows: int, outputs: int, inputs: int, with_bias: bool, dtype: torch.dtype
) -> None:
    x, weight = random(rows, inputs, dtype=dtype), int4(outputs, inputs)
    bias = random(outputs, dtype=dtype, seed=2) if with_bias else None
    product = TorchOperations(dtype).matrix(weight, bias).multiply(x)
    assert product.shape == (rows, outputs)
    assert_near(product, x, weight.dense(), bias)


@pytest.mark.parametrize("quantized", [int8, int4])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_inputs_may_lie_anywhere_in_memory(quantized: Quantize, rows: int) -> None:
    matrix, x = TorchOperations(torch.bfloat16).matrix(quantized(64, 96)), random(rows, 96)
    apart = torch.full((rows, 3, 96), torch.nan, dtype=torch.bfloat16)
    apart[:, 1] = x
    assert torch.equal(matrix.multiply(apart[:, 1]), matrix.multiply(x))
    assert torch.equal(matrix.multiply(x.T.contiguous().T), matrix.multiply(x))


@pytest.mark.parametrize("quantized", [int8, int4])
def test_a_gated_product_is_that_of_its_gates_and_values(quantized: Quantize) -> None:
    operations, x, weight = TorchOperations(torch.bfloat16), random(9, 64), quantized(80, 64)
    product = operations.gated_matrix(weight, None, "silu").multiply(x)
    gates, values = operations.matrix(weight).multiply(x).chunk(2, dim=-1)
    assert torch.equal(product, torch.nn.functional.silu(gates) * values)


@pytest.mark.parametrize("dtype", list(ROUNDINGS))
@pytest.mark.parametrize("inputs", [96, 50])
def test_rows_of_an_eight_bit_embedding_are_its_weights(dtype: torch.dtype, inputs: int) -> None:
    weight = int8(70, inputs)
    ids = torch.tensor([69, 0, 3, 3])
    rows = TorchOperations(dtype).embedding_matrix(weight).rows(ids)
    assert rows.dtype is dtype
    torch.testing.assert_close(rows.float(), weight.dense()[ids], rtol=2 * ROUNDINGS[dtype], atol=1e-7)


def test_the_head_of_an_eight_bit_embedding_multiplies_with_the_same_weights() -> None:
    weight, x = int8(70, 96), random(3, 96)
    head = TorchOperations(torch.bfloat16).embedding_matrix(weight)
    assert_near(head.multiply(x), x, weight.dense(), None)


@given(st.integers(0, 40), st.integers(1, 40), four_bit_inputs, dtypes, st.sampled_from([int8, int4]))
@SMALL
def test_products_have_the_same_bits_whatever_stands_beside_a_row(
    start: int, count: int, inputs: int, dtype: torch.dtype, quantized: Quantize
) -> None:
    x, matrix = random(80, inputs, dtype=dtype), TorchOperations(dtype).matrix(quantized(64, inputs))
    some = slice(start, start + count)
    assert torch.equal(matrix.multiply(x[some]), matrix.multiply(x)[some])
