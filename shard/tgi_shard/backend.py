"""Chooses what a model computes with: the kernels made for the machine, or torch's operations."""

from dataclasses import dataclass
from pathlib import Path

import structlog
import torch

from tgi_shard.attention.cpu_backend import CpuAttention
from tgi_shard.attention.interface import AttentionBackend
from tgi_shard.attention.torch_backend import TorchAttention
from tgi_shard.kernels.build import KernelError, build_kernels
from tgi_shard.kernels.graphs import CpuGraphs
from tgi_shard.kernels.library import CpuKernels
from tgi_shard.ops.cpu_ops import CpuOperations
from tgi_shard.ops.interface import Operations
from tgi_shard.ops.steps import EagerSteps, StepRunner
from tgi_shard.ops.torch_ops import TorchOperations

BY_TORCH = "torch's operations compute, slower than the CPU kernels"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backend:
    """How a model computes.

    Attributes:
        operations: of its layers.
        attention: writes and reads the KV cache.
        steps: runs all of it.
    """

    operations: Operations
    attention: AttentionBackend
    steps: StepRunner


def torch_backend(dtype: torch.dtype) -> Backend:
    """Runs everywhere, and is what kernels are held against."""
    return Backend(TorchOperations(dtype), TorchAttention(), EagerSteps())


def select_backend(
    device: torch.device, dtype: torch.dtype, head_dim: int, kernel_cache: Path | None
) -> Backend:
    """The fastest backend for a model; says why if that is not the kernels.

    Args:
        device: where the model computes.
        dtype: the type it computes in.
        head_dim: size of its attention heads.
        kernel_cache: where compiled kernels are kept; None to do without kernels.
    """
    if device.type != "cpu":
        return torch_backend(dtype)
    if kernel_cache is None:
        log.info(f"{BY_TORCH}, which are disabled")
        return torch_backend(dtype)
    if dtype is not torch.bfloat16:
        log.info(f"{BY_TORCH}, which are for bfloat16 only", dtype=str(dtype))
        return torch_backend(dtype)
    try:
        kernels = CpuKernels(build_kernels(kernel_cache))
    except KernelError as error:
        log.warning(f"{BY_TORCH}: {error}")
        return torch_backend(dtype)
    operations = CpuOperations(kernels)
    if not CpuAttention.supports(head_dim):
        log.info(
            "torch's operations attend, slower than the CPU kernels, which take no such heads", size=head_dim
        )
        return Backend(operations, TorchAttention(), EagerSteps())
    return Backend(operations, CpuAttention(kernels), CpuGraphs(kernels))
