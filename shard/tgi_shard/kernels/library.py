"""The compiled kernels as Python functions.

Called through ctypes with plain addresses: a call costs a microsecond, a third of what one through torch's
dispatcher does. Arguments are trusted; `CpuOperations` and `CpuAttention` check what they pass.
"""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, c_float, c_int, c_int64, c_void_p
from enum import IntEnum
from pathlib import Path
from typing import Any

from tgi_shard.kernels.build import KernelError


class MatrixFormat(IntEnum):
    """How weights are stored, as weights.h's `Format`."""

    BF16 = 0
    INT8 = 1
    INT4 = 2


class MatrixArguments(Structure):
    """Packed weights, as weights.h's `Matrix`."""

    _fields_ = (
        ("values", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
        ("columns", c_int64),
        ("inner", c_int64),
        ("format", c_int64),
    )


class Layout(Structure):
    """One step's tokens, as attention.cpp's `Layout`: addresses of int64 arrays."""

    _fields_ = (
        ("tokens", c_int64),
        ("sequences", c_int64),
        ("slots", c_void_p),
        ("starts", c_void_p),
        ("contexts", c_void_p),
        ("tables", c_void_p),
        ("table_width", c_int64),
        ("tiles", c_int64),
        ("tile_sequences", c_void_p),
        ("tile_rows", c_void_p),
    )


class Heads(Structure):
    """One layer's tensors, as attention.cpp's `Heads`."""

    _fields_ = (
        ("query", c_void_p),
        ("key", c_void_p),
        ("value", c_void_p),
        ("query_stride", c_int64),
        ("key_stride", c_int64),
        ("value_stride", c_int64),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("attended", c_void_p),
        ("heads", c_int64),
        ("kv_heads", c_int64),
        ("head_dim", c_int64),
        ("window", c_int64),
        ("scale", c_float),
    )


_POINTER, _COUNT, _MATRIX = c_void_p, c_int64, POINTER(MatrixArguments)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "pack_bf16": (_POINTER, _COUNT, _COUNT, _POINTER),
    "pack_int8": (_POINTER, _COUNT, _COUNT, _POINTER),
    "pack_int4": (_POINTER, _COUNT, _COUNT, _POINTER),
    "unpack_rows": (_MATRIX, _POINTER, _COUNT, _POINTER),
    "linear": (_MATRIX, _POINTER, _COUNT, _POINTER),
    "gated": (_MATRIX, _POINTER, _COUNT, _POINTER, c_int),
    "add_norm": (_POINTER, _POINTER, _POINTER, c_float, _POINTER, _COUNT, _COUNT),
    "norm_heads": (_POINTER, _COUNT, _COUNT, _COUNT, _COUNT, _POINTER, c_float),
    "rotate": (_POINTER, _COUNT, _COUNT, _COUNT, _COUNT, _POINTER, _POINTER, _COUNT),
    "greedy": (_POINTER, _COUNT, _COUNT, _COUNT, _POINTER, _POINTER),
    "attend": (POINTER(Layout), POINTER(Heads)),
}


class CpuKernels:
    """The functions of the library, each described in the C++ file that defines it.

    A pointer is an address as `Tensor.data_ptr` gives it; tensors are contiguous unless a stride is passed.
    """

    pack_bf16: Callable[..., None]
    pack_int8: Callable[..., None]
    pack_int4: Callable[..., None]
    unpack_rows: Callable[..., None]
    linear: Callable[..., None]
    gated: Callable[..., None]
    add_norm: Callable[..., None]
    norm_heads: Callable[..., None]
    rotate: Callable[..., None]
    greedy: Callable[..., None]
    attend: Callable[..., None]

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
        for name, arguments in _SIGNATURES.items():
            function = library[f"tgi_{name}"]
            function.argtypes, function.restype = arguments, None
            setattr(self, name, function)
