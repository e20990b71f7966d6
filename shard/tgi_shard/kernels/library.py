"""The compiled kernels: calls to them, made now or recorded to be repeated.

Called through ctypes with plain addresses: that costs a third of what torch's dispatcher does.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import Structure, byref
from enum import StrEnum
from pathlib import Path

import torch
from torch import Tensor

from tgi_shard.kernels.build import KernelError
from tgi_shard.kernels.recording import Recording


class Kernel(StrEnum):
    """The functions of the library, each described in the C++ file that defines it."""

    PACK_BF16 = "pack_bf16"
    PACK_INT8 = "pack_int8"
    PACK_INT4 = "pack_int4"
    UNPACK_ROWS = "unpack_rows"
    LINEAR = "linear"
    GATED_SILU = "gated_silu"
    GATED_GELU_TANH = "gated_gelu_tanh"
    ADD_NORM = "add_norm"
    NORM_HEADS = "norm_heads"
    ROTATE = "rotate"
    GREEDY = "greedy"
    ATTEND = "attend"
    REPLAY = "replay"


class CpuKernels:
    """The library, and the recording that is under way, if there is one."""

    def __init__(self, path: Path) -> None:
        """Load the library; torch must be loaded before, whose OpenMP threads the kernels then share.

        Raises:
            KernelError: it does not load, or the system denies the processor's matrix unit.
        """
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise KernelError(f"the kernels do not load: {error}") from error
        if library.tgi_prepare() != 0:
            raise KernelError("the system does not let this process use the processor's matrix tiles")
        self._functions: dict[Kernel, Callable[..., None]] = {}
        for kernel in Kernel:
            function = library[f"tgi_{kernel}"]
            function.argtypes, function.restype = (ctypes.c_void_p,), None
            self._functions[kernel] = function
        self._recording: Recording | None = None

    def call(self, kernel: Kernel, arguments: Structure) -> None:
        """Run a kernel; see the structure's class for its arguments."""
        function = self._functions[kernel]
        function(byref(arguments))
        if self._recording is not None:
            self._recording.add(function, arguments)

    def empty(self, rows: int, columns: int) -> Tensor:
        """An uninitialized [rows, columns] bfloat16 tensor for a kernel's results."""
        if self._recording is not None:
            return self._recording.empty(rows, columns)
        return torch.empty(rows, columns, dtype=torch.bfloat16)

    @contextmanager
    def record(self) -> Iterator[Recording]:
        """Note all calls made meanwhile, and give their results memory that stays."""
        self._recording = Recording()
        try:
            with self._recording:
                yield self._recording
        finally:
            self._recording = None
