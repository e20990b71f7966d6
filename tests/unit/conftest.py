"""The CPU kernels, compiled once for all tests that compute with them."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tgi_shard.kernels.build import build_kernels
from tgi_shard.kernels.library import CpuKernels
from unit.kernels.variants import VARIANTS, computing_threads, installed_compiler, load_variant

NATIVE = "native"


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the kernels of this machine, which whoever comes first compiles."""
    installed_compiler()
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def _variants(kernel_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CpuKernels]:
    @functools.cache
    def load(name: str) -> CpuKernels:
        if name == NATIVE:
            return CpuKernels(build_kernels(kernel_cache))
        return load_variant(name, tmp_path_factory.mktemp(name))

    return load


@pytest.fixture(scope="session")
def kernels(_variants: Callable[[str], CpuKernels]) -> CpuKernels:
    """The kernels for this machine."""
    return _variants(NATIVE)


@pytest.fixture(scope="session", params=[NATIVE, *VARIANTS])
def any_kernels(_variants: Callable[[str], CpuKernels], request: pytest.FixtureRequest) -> CpuKernels:
    """The kernels for this machine, and for each lesser one: a test runs with all of them."""
    variant: str = request.param
    return _variants(variant)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute on one thread: on a busy machine, several wait for each other at each of many small steps."""
    with computing_threads(1):
        yield
