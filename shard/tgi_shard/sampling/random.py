"""Random numbers that depend on a seed and a position only, with no generator to keep or to restore.

The numbers are SplitMix64's (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators"):
the counter of a stream advances by a fixed odd step and is mixed by a bijection. A stream starts at the mixed
seed, so that neighbouring seeds are unrelated. Integer arithmetic is exact: every rank draws the same, and
seeds and positions are known on the host, so no device is waited for.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class UniformStreams:
    """One stream of uniform numbers for each seed."""

    def __init__(self, seeds: npt.NDArray[np.uint64], device: torch.device) -> None:
        self._starts = _mix(seeds)
        self._device = device

    def at(self, positions: npt.NDArray[np.int64]) -> Tensor:
        """The number at one position (from 0) of each stream: float64 [streams] in [0, 1)."""
        mixed = _mix(self._starts + (positions.astype(np.uint64) + np.uint64(1)) * _STEP)
        return torch.from_numpy((mixed >> np.uint64(11)) * 2.0**-53).to(self._device)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's bijection of 64-bit integers, which wrap around."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))
