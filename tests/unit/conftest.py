"""The CPU kernels, compiled once for all tests that compute with them."""

import functools
from collections.abc import Callable, Iterator

import pytest

from tgi_shard.kernels.library import CpuKernels
from unit.kernels.variants import VARIANTS, computing_threads, load_variant


@pytest.fixture(scope="session")
def _variants(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CpuKernels]:
    return functools.cache(lambda name: load_variant(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def kernels(_variants: Callable[[str], CpuKernels]) -> CpuKernels:
    """The kernels for this machine."""
    return _variants("native")


@pytest.fixture(scope="session", params=list(VARIANTS))
def any_kernels(_variants: Callable[[str], CpuKernels], request: pytest.FixtureRequest) -> CpuKernels:
    """The kernels for this machine, and for each lesser one: a test runs with all of them."""
    variant: str = request.param
    return _variants(variant)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute on one thread: on a busy machine, several wait for each other at each of many small steps."""
    with computing_threads(1):
        yield
