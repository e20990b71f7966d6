"""Products by the CPU kernels: what float64 gives but for roundings, and each row for itself, to the bit."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgi_shard.kernels.library import CpuKernels
from tgi_shard.layers.activation import ACTIVATIONS
from tgi_shard.ops.cpu_ops import CpuOperations
from tgi_shard.quantization.weights import Int4Weight, Int8Weight
from unit.kernels.variants import computing_threads

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDING = 2.0**-8
"""The most that rounding to bfloat16 changes a number, as a part of it."""

TINY = 2.0**-126
"""Numbers nearer to zero than this may become zero."""

NAN, INF = math.nan, math.inf
SMALL = settings(max_examples=15, deadline=None)

inner_sizes = st.sampled_from([32, 64, 96, 480, 1024, 1056, 2080])
row_counts = st.one_of(st.integers(1, 70), st.sampled_from([255, 256, 257, 288, 300]))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def random_weight(columns: int, inner: int, seed: int = 1) -> Tensor:
    """Weights that keep the size of their inputs."""
    return random(columns, inner, seed=seed) * inner**-0.5


def assert_a_rounded_product(product: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    """Summed in float32, in any order, and then rounded once."""
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    summed = x.double().abs() @ weight.double().abs().T * 2.0**-18
    assert ((product.double() - exact).abs() <= ROUNDING * exact.abs() + summed).all()


@given(row_counts, st.integers(1, 150), inner_sizes, st.booleans(), st.integers(0, 9))
@SMALL
def test_a_product_of_any_shape_is_exact_but_for_one_rounding(
    any_kernels: CpuKernels, rows: int, columns: int, inner: int, with_bias: bool, seed: int
) -> None:
    x, weight = random(rows, inner, seed=seed), random_weight(columns, inner, seed + 1)
    bias = random(columns, seed=seed + 2) if with_bias else None
    product = CpuOperations(any_kernels).matrix(weight, bias).multiply(x)
    assert product.dtype is torch.bfloat16
    assert_a_rounded_product(product, x, weight, bias)


@given(
    st.integers(1, 300).flatmap(lambda rows: st.tuples(st.integers(0, rows - 1), st.just(rows))),
    st.integers(1, 300),
    inner_sizes,
)
@SMALL
def test_a_row_has_the_same_bits_whatever_stands_beside_it(
    any_kernels: CpuKernels, start_of: tuple[int, int], count: int, inner: int
) -> None:
    (start, rows), operations = start_of, CpuOperations(any_kernels)
    x, weight = random(rows, inner), random_weight(64, inner)
    some = slice(start, start + count)
    for matrix in (operations.matrix(weight), operations.gated_matrix(weight, None, "silu")):
        assert torch.equal(matrix.multiply(x[some]), matrix.multiply(x)[some])


def quantized(bits: int, columns: int, inner: int) -> Int8Weight | Int4Weight:
    """Weights of all codes, with scales and zeros of any size."""
    generator = torch.Generator().manual_seed(columns)
    if bits == 8:
        codes = torch.randint(-128, 128, (columns, inner), generator=generator, dtype=torch.int8)
        return Int8Weight(codes, torch.rand(columns, generator=generator) * 1e-3)
    codes = torch.randint(0, 16, (columns, inner), generator=generator, dtype=torch.uint8)
    groups = (2, columns, inner // 32)
    scales, zeros = (torch.randn(*groups, generator=generator) * 0.02).bfloat16()
    return Int4Weight(codes, scales, zeros)


@given(row_counts, st.integers(1, 150), inner_sizes, st.booleans(), st.sampled_from([8, 4]))
@SMALL
def test_quantized_weights_multiply_as_the_weights_that_they_stand_for(
    any_kernels: CpuKernels, rows: int, columns: int, inner: int, with_bias: bool, bits: int
) -> None:
    x, weight = random(rows, inner), quantized(bits, columns, inner)
    bias = random(columns, seed=2) if with_bias else None
    product = CpuOperations(any_kernels).matrix(weight, bias).multiply(x)
    # Four-bit weights are rounded to bfloat16 before they are multiplied.
    dense = weight.dense() if bits == 8 else weight.dense().bfloat16()
    assert_a_rounded_product(product, x, dense, bias)


@given(st.integers(0, 40), st.integers(1, 40), inner_sizes, st.sampled_from([8, 4]))
@SMALL
def test_quantized_products_have_the_same_bits_whatever_stands_beside_a_row(
    any_kernels: CpuKernels, start: int, count: int, inner: int, bits: int
) -> None:
    operations, x, weight = CpuOperations(any_kernels), random(80, inner), quantized(bits, 64, inner)
    some = slice(start, start + count)
    for matrix in (operations.matrix(weight), operations.gated_matrix(weight, None, "silu")):
        assert torch.equal(matrix.multiply(x[some]), matrix.multiply(x)[some])


def test_rows_of_an_eight_bit_embedding_are_its_rounded_weights(any_kernels: CpuKernels) -> None:
    weight = quantized(8, 70, 96)
    assert isinstance(weight, Int8Weight)
    rows = CpuOperations(any_kernels).embedding_matrix(weight).rows(torch.arange(69, -1, -1))
    assert torch.equal(rows, weight.dense().bfloat16().flip(0))


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_any_number_of_threads_gives_the_same_bits(any_kernels: CpuKernels, threads: int) -> None:
    operations, weight, x = CpuOperations(any_kernels), random_weight(224, 1056), random(290, 1056)
    for matrix in (operations.matrix(weight), operations.gated_matrix(weight, None, "silu")):
        product = matrix.multiply(x)
        with computing_threads(threads):
            assert torch.equal(matrix.multiply(x), product)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("rows", [5, 33, 300])
def test_what_is_not_a_number_stays_in_its_row(any_kernels: CpuKernels, bad: float, rows: int) -> None:
    operations, weight = CpuOperations(any_kernels), random_weight(96, 64)
    x = random(rows, 64)
    broken = x.clone()
    broken[3, 7] = bad
    others = torch.arange(rows) != 3
    for matrix in (operations.matrix(weight), operations.gated_matrix(weight, None, "gelu_new")):
        product = matrix.multiply(broken)
        assert torch.equal(product[others], matrix.multiply(x)[others])
    assert not operations.matrix(weight).multiply(broken)[3].isfinite().any()


@pytest.mark.parametrize("rows", [1, 7, 17, 40])
def test_inputs_may_lie_anywhere_in_memory(any_kernels: CpuKernels, rows: int) -> None:
    operations, weight = CpuOperations(any_kernels), random_weight(64, 96)
    x = random(rows, 96)
    apart = torch.full((rows, 3, 96), NAN, dtype=torch.bfloat16)
    apart[:, 1] = x
    for matrix in (operations.matrix(weight), operations.gated_matrix(weight, None, "silu")):
        product = matrix.multiply(x)
        assert torch.equal(matrix.multiply(apart[:, 1]), product)
        assert torch.equal(matrix.multiply(x.T.contiguous().T), product)


def test_no_rows_make_no_rows(any_kernels: CpuKernels) -> None:
    operations, weight = CpuOperations(any_kernels), random_weight(64, 96)
    nothing = torch.empty(0, 96, dtype=torch.bfloat16)
    assert operations.matrix(weight).multiply(nothing).shape == (0, 64)
    assert operations.gated_matrix(weight, None, "silu").multiply(nothing).shape == (0, 32)
    assert operations.embedding_matrix(weight).rows(torch.empty(0, dtype=torch.int64)).shape == (0, 96)


@given(st.integers(1, 150), inner_sizes, st.lists(st.integers(0, 10**6), max_size=40))
@SMALL
def test_rows_of_an_embedding_are_the_weights_themselves(
    any_kernels: CpuKernels, columns: int, inner: int, numbers: list[int]
) -> None:
    weight = random_weight(columns, inner)
    weight[0, 0] = NAN
    matrix = CpuOperations(any_kernels).embedding_matrix(weight)
    ids = torch.tensor(numbers, dtype=torch.int64) % columns
    assert torch.equal(matrix.rows(ids).view(torch.int16), weight[ids].view(torch.int16))


@pytest.mark.parametrize("inner", [8, 31, 33, 80])
def test_sizes_that_do_not_fit_the_vectors_are_computed_all_the_same(kernels: CpuKernels, inner: int) -> None:
    operations = CpuOperations(kernels)
    x, weight = random(9, inner), random_weight(40, inner)
    assert_a_rounded_product(operations.matrix(weight).multiply(x), x, weight)
    assert operations.gated_matrix(weight, None, "silu").multiply(x).shape == (9, 20)
    assert torch.equal(operations.embedding_matrix(weight).rows(torch.arange(40)), weight)


def gated(kernels: CpuKernels, activation: str, gates: Tensor, values: Tensor) -> Tensor:
    """A gated product whose gates and values are these, exactly."""
    weight = torch.zeros(2 * len(gates), 32, dtype=torch.bfloat16)
    weight[: len(gates), 0], weight[len(gates) :, 1] = gates, values
    x = torch.zeros(1, 32, dtype=torch.bfloat16)
    x[:, :2] = 1
    return CpuOperations(kernels).gated_matrix(weight, None, activation).multiply(x)[0]


def all_numbers(above: float, below: float) -> Tensor:
    """Every bfloat16 between two bounds but the smallest, a multiple of 32 of them."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    found = every[(every >= above) & (every <= below) & (every.float().abs() >= TINY)]
    return torch.cat((found, torch.zeros(-len(found) % 32, dtype=torch.bfloat16)))


def assert_activated(kernels: CpuKernels, activation: str, gates: Tensor) -> None:
    exact = ACTIVATIONS[activation](gates.double())
    activated = gated(kernels, activation, gates, torch.ones_like(gates)).double()
    # float32 sees GELU's tanh as 1 where it no longer is: an absolute error of a float32's last bit.
    near = ROUNDING * exact.abs() + 2.0**-21 * gates.double().abs().clamp(max=8) + TINY
    assert ((activated - exact).abs() <= near * 1.01).all()


def test_silu_of_every_number_is_exact_but_for_one_rounding(any_kernels: CpuKernels) -> None:
    assert_activated(any_kernels, "silu", all_numbers(-87, 3e38))


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"])
def test_gelu_of_every_number_is_exact_but_for_one_rounding(any_kernels: CpuKernels, activation: str) -> None:
    assert_activated(any_kernels, activation, all_numbers(-10, 1e30))


@pytest.mark.parametrize(("activation", "above", "below"), [("silu", -3e38, -87), ("gelu_new", -1e30, -10)])
def test_gates_far_below_zero_close(
    any_kernels: CpuKernels, activation: str, above: float, below: float
) -> None:
    assert_activated(any_kernels, activation, all_numbers(above, below))


@given(row_counts, st.integers(1, 75), inner_sizes, st.sampled_from(["silu", "gelu_new"]), st.integers(0, 9))
@SMALL
def test_a_gated_product_is_that_of_its_gates_and_values(
    any_kernels: CpuKernels, rows: int, columns: int, inner: int, activation: str, seed: int
) -> None:
    x, weight = random(rows, inner, seed=seed), random_weight(2 * columns, inner, seed + 1)
    product = CpuOperations(any_kernels).gated_matrix(weight, None, activation).multiply(x).double()
    gates, values = (x.double() @ weight.double().T).chunk(2, dim=-1)
    exact = ACTIVATIONS[activation](gates) * values
    # The gate, the value, the activation and the product are rounded; an activation is at most 1.13 times as
    # steep as its gate.
    near = ROUNDING * (1.13 * (gates * values).abs() + 3 * exact.abs()) + 1e-5
    assert ((product - exact).abs() <= 1.02 * near).all()


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("with_bias", [False, True])
def test_every_activation_gives_what_torch_gives_with_a_bias_or_without(
    kernels: CpuKernels, activation: str, with_bias: bool
) -> None:
    x, weight = random(20, 64), random_weight(64, 64)
    bias = random(64, seed=2) if with_bias else None
    product = CpuOperations(kernels).gated_matrix(weight, bias, activation).multiply(x)
    gates, values = torch.nn.functional.linear(x, weight, bias).chunk(2, dim=-1)
    torch.testing.assert_close(product, ACTIVATIONS[activation](gates) * values, atol=0.02, rtol=0.02)
