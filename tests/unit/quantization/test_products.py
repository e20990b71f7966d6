"""Quantized weights in the hands of those who multiply: the kernels and torch, side by side."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tgi_shard.kernels.library import CpuKernels
from tgi_shard.ops.cpu_ops import CpuOperations
from tgi_shard.ops.torch_ops import TorchOperations
from tgi_shard.quantization.schemes import quantize_int4, quantize_int8
from tgi_shard.quantization.weights import Weight

pytestmark = pytest.mark.usefixtures("one_thread")

Quantize = Callable[[Tensor], Weight]
ROUNDING = 2.0**-8


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.mark.parametrize("quantize", [quantize_int8, quantize_int4])
@pytest.mark.parametrize("inputs", [32, 40, 96, 1056])
@pytest.mark.parametrize("rows", [1, 6, 40])
def test_kernels_and_torch_give_the_same_product_but_for_roundings(
    kernels: CpuKernels, quantize: Quantize, inputs: int, rows: int
) -> None:
    x, weight = random(rows, inputs), quantize(random(70, inputs, seed=1) * inputs**-0.5)
    assert not isinstance(weight, Tensor)
    ours = CpuOperations(kernels).matrix(weight).multiply(x).double()
    torchs = TorchOperations(torch.bfloat16).matrix(weight).multiply(x).double()
    exact = x.double() @ weight.dense().double().T
    parts = x.double().abs() @ weight.dense().double().abs().T
    near = 2 * ROUNDING * (exact.abs() + parts)
    assert ((ours - torchs).abs() <= near).all()
    assert ((ours - exact).abs() <= near).all()


@pytest.mark.parametrize("quantize", [quantize_int8, quantize_int4])
def test_quantized_products_are_near_those_of_the_weights_before(
    kernels: CpuKernels, quantize: Quantize
) -> None:
    x, weight = random(20, 1024), random(256, 1024, seed=1)
    product = CpuOperations(kernels).matrix(quantize(weight)).multiply(x).double()
    exact = x.double() @ weight.double().T
    error = (product - exact).square().mean() / exact.square().mean()
    assert error.sqrt() < (0.01 if quantize is quantize_int8 else 0.08)


def test_a_weight_that_is_no_number_makes_its_outputs_no_numbers(kernels: CpuKernels) -> None:
    weight = random(64, 96)
    weight[3, 5] = torch.nan
    x = random(4, 96).abs() + 1
    for quantize in (quantize_int8, quantize_int4):
        for operations in (CpuOperations(kernels), TorchOperations(torch.bfloat16)):
            product = operations.matrix(quantize(weight)).multiply(x)
            assert product.isnan().any(0).nonzero().flatten().tolist() == [3]
            assert product[:, 3].isnan().all()
