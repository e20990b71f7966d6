"""Random numbers that depend on a seed and a position only, with no generator to keep or to restore.

The numbers are SplitMix64's (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators"):
the counter of a stream advances by a fixed odd step and is mixed by a bijection. A stream starts at the mixed
seed, so that neighbouring seeds are unrelated. Integer arithmetic is exact: every rank and every device draws
the same.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_STEP = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_MASK = 2**64 - 1


class UniformStreams:
    """One stream of uniform numbers for each seed; any 64-bit integers, negative ones included."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        starts = [_signed(_mixed_int(seed & _MASK)) for seed in seeds]
        self._starts = torch.tensor(starts, dtype=torch.int64, device=device)

    def at(self, positions: Tensor) -> Tensor:
        """The number at `positions` (int64 [streams]) of each stream: float64 [streams] in [0, 1)."""
        mixed = _mix(self._starts + (positions + 1) * _signed(_STEP))
        return _shift_right(mixed, 11).to(torch.float64) * 2.0**-53


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's bijection of 64-bit integers, which int64 arithmetic computes by wrapping around."""
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX_2)
    return x ^ _shift_right(x, 31)


def _mixed_int(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own copies the sign bit of int64."""
    mask: int = 2 ** (64 - bits) - 1
    return (x >> bits) & mask


def _signed(x: int) -> int:
    """The int64 with the bits of the unsigned `x`."""
    return x - 2**64 if x >= 2**63 else x
