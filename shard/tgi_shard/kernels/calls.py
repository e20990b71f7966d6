"""The arguments of the kernels: each a structure, described in the C++ file that reads it.

A pointer is an address as `Tensor.data_ptr` gives it. Who makes a call keeps the tensors alive until it is
done, and checks them: kernels trust what they are passed.
"""

from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from enum import IntEnum

_POINTER, _COUNT = c_void_p, c_int64


class MatrixFormat(IntEnum):
    """How weights are stored: weights.h's `Format`."""

    BF16 = 0
    INT8 = 1
    INT4 = 2


class Matrix(Structure):
    """Packed weights: weights.h."""

    _fields_ = (
        ("values", _POINTER),
        ("scales", _POINTER),
        ("bias", _POINTER),
        ("columns", _COUNT),
        ("inner", _COUNT),
        ("format", _COUNT),
    )


class LinearCall(Structure):
    """linear, gated_silu and gated_gelu_tanh: linear.cpp."""

    _fields_ = (("matrix", POINTER(Matrix)), ("inputs", _POINTER), ("rows", _COUNT), ("outputs", _POINTER))


class PackCall(Structure):
    """pack_bf16, pack_int8 and pack_int4: packing.cpp."""

    _fields_ = (("weights", _POINTER), ("columns", _COUNT), ("inner", _COUNT), ("packed", _POINTER))


class RowsCall(Structure):
    """unpack_rows: packing.cpp."""

    _fields_ = (("matrix", POINTER(Matrix)), ("ids", _POINTER), ("count", _COUNT), ("rows", _POINTER))


class NormCall(Structure):
    """add_norm: elementwise.cpp."""

    _fields_ = (
        ("hidden", _POINTER),
        ("delta", _POINTER),
        ("weight", _POINTER),
        ("normed", _POINTER),
        ("rows", _COUNT),
        ("size", _COUNT),
        ("eps", c_float),
    )


class HeadNormCall(Structure):
    """norm_heads: elementwise.cpp."""

    _fields_ = (
        ("values", _POINTER),
        ("stride", _COUNT),
        ("tokens", _COUNT),
        ("heads", _COUNT),
        ("head_dim", _COUNT),
        ("weights", _POINTER),
        ("eps", c_float),
    )


class RotationCall(Structure):
    """rotate: elementwise.cpp."""

    _fields_ = (
        ("values", _POINTER),
        ("stride", _COUNT),
        ("tokens", _COUNT),
        ("heads", _COUNT),
        ("head_dim", _COUNT),
        ("cos", _POINTER),
        ("sin", _POINTER),
        ("half", _COUNT),
    )


class GreedyCall(Structure):
    """greedy: elementwise.cpp."""

    _fields_ = (
        ("logits", _POINTER),
        ("stride", _COUNT),
        ("rows", _COUNT),
        ("vocabulary", _COUNT),
        ("tokens", _POINTER),
        ("logprobs", _POINTER),
    )


class Layout(Structure):
    """One step's tokens, as all layers' attention reads them: attention.cpp."""

    _fields_ = (
        ("tokens", _COUNT),
        ("sequences", _COUNT),
        ("slots", _POINTER),
        ("starts", _POINTER),
        ("contexts", _POINTER),
        ("tables", _POINTER),
        ("table_width", _COUNT),
        ("tiles", _COUNT),
        ("tile_sequences", _POINTER),
        ("tile_rows", _POINTER),
    )


class AttentionCall(Structure):
    """attend: attention.cpp."""

    _fields_ = (
        ("layout", POINTER(Layout)),
        ("query", _POINTER),
        ("key", _POINTER),
        ("value", _POINTER),
        ("query_stride", _COUNT),
        ("key_stride", _COUNT),
        ("value_stride", _COUNT),
        ("keys", _POINTER),
        ("values", _POINTER),
        ("attended", _POINTER),
        ("heads", _COUNT),
        ("kv_heads", _COUNT),
        ("head_dim", _COUNT),
        ("window", _COUNT),
        ("scale", c_float),
    )


class RecordedCall(Structure):
    """One call to repeat: replay.cpp."""

    _fields_ = (("kernel", _POINTER), ("call", _POINTER))


class ReplayCall(Structure):
    """replay: replay.cpp."""

    _fields_ = (("calls", POINTER(RecordedCall)), ("count", _COUNT))
