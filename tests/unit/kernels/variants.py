"""The kernels as they are compiled for processors that lack some of the instructions of this one."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tgi_shard.kernels.build import COMPILERS, build_kernels
from tgi_shard.kernels.library import CpuKernels

_NO_AMX = ("-mno-amx-tile", "-mno-amx-bf16")
VARIANTS: dict[str, tuple[str, ...]] = {
    "no-tiles": _NO_AMX,
    "no-bfloat16-instructions": (*_NO_AMX, "-mno-avx512bf16"),
    "avx2": ("-march=x86-64-v3",),
}
_NEEDED = {"avx2": {"avx2", "fma", "bmi2"}}
"""What the processor must have, by variant; the others only take from what it has."""


def installed_compiler() -> str:
    """The compiler that a shard would use; the test is skipped where there is none."""
    for name in COMPILERS:
        if path := shutil.which(name):
            return path
    pytest.skip("there is no C++ compiler")


def write_compiler(path: Path, script: str) -> str:
    """An executable that stands for a compiler, written in sh; its path."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def load_variant(name: str, folder: Path) -> CpuKernels:
    """Compile a variant into `folder`; skips the test where nothing can compile or run it."""
    compiler, flags = installed_compiler(), VARIANTS[name]
    if not _NEEDED.get(name, set()) <= _processor_flags():
        pytest.skip(f"this processor cannot run the {name} kernels")
    probe = [compiler, *flags, "-fsyntax-only", "-x", "c++", "/dev/null"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{compiler} does not know {' '.join(flags)}")
    with_flags = write_compiler(folder / "compiler", f'exec {compiler} "$@" {" ".join(flags)}')
    return CpuKernels(build_kernels(folder / "cache", with_flags))


@contextlib.contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Have torch and the kernels compute on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())
