"""Picking some rows of a tensor, without a copy where they follow each other."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Positions = npt.NDArray[np.int64]
Index = slice | Tensor


def as_index(positions: Positions, device: torch.device) -> Index:
    """What picks these rows (ascending, one at least) out of a tensor on `device`."""
    first, last = int(positions[0]), int(positions[-1])
    if last - first + 1 == len(positions):
        return slice(first, last + 1)
    return torch.from_numpy(positions).to(device)
