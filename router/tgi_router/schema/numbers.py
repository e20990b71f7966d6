"""Numbers as TGI's routes read and write them: bounded integers, and 32-bit floats."""

import math
from struct import Struct as BinaryFormat
from typing import Annotated

import numpy as np
from msgspec import Meta

F32_MAX = 3.4028234663852886e38

U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
I32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
F32 = Annotated[float, Meta(ge=-F32_MAX, le=F32_MAX)]

# msgspec's bounds end at 64 signed bits, so the upper end of a seed is checked by `check_seed`.
UnsignedSeed = Annotated[int, Meta(ge=0)]
AnySeed = Annotated[int, Meta(ge=-(2**63))]
SEED_MAX = 2**64 - 1

_BINARY32 = BinaryFormat("<f")


def round_to_f32(value: float) -> float:
    """The 32-bit float nearest to a number: what the contract carries, and so what must be checked."""
    rounded: float = _BINARY32.unpack(_BINARY32.pack(value))[0]
    return rounded


def shorten_f32(value: float) -> float:
    """The number whose text is the shortest that reads back as the same 32-bit float.

    A float that came from 32 bits prints as the long expansion of its 64-bit twin; the number returned here
    has at most nine digits, so it prints as those. Infinities become NaN: JSON writes both as null.
    """
    if not math.isfinite(value):
        return math.nan
    return float(str(np.float32(value)))


def check_seed(seed: int | None) -> None:
    """Refuse a seed that does not fit 64 bits.

    Raises:
        ValueError: it does not; msgspec turns this into its own error, with the field's place.
    """
    if seed is not None and seed > SEED_MAX:
        raise ValueError(f"`seed` must be <= {SEED_MAX}")
