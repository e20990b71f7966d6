"""Drawing an index by its weight: one uniform number, inverted through the cumulative weights."""

import torch
from torch import Tensor

# A row of weights is searched in two levels, blocks of this size and then one block, so that the exact
# running sums are over hundreds of numbers, not over the vocabulary, whose size 128 mostly divides.
BLOCK_SIZE = 128


def draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw one index per row, each with the probability weight / sum of the row's weights.

    An index of weight 0 is never drawn. A row that has no positive weight (NaN) yields some index in range.

    Args:
        weights: float [rows, n], none negative; they need not sum to 1.
        uniform: float64 [rows] in [0, 1).

    Returns:
        int64 [rows].
    """
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    return _find(weights, cumulative, uniform * cumulative[:, -1])


def draw_from_vocabulary(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw as `draw` does, at a cost near one pass over the weights (float32 [rows, vocabulary])."""
    rows, size = weights.shape
    if size % BLOCK_SIZE:
        weights = torch.nn.functional.pad(weights, (0, -size % BLOCK_SIZE))
    blocks = weights.view(rows, -1, BLOCK_SIZE)
    masses = blocks.sum(dim=-1)
    cumulative = masses.cumsum(dim=-1, dtype=torch.float64)
    target = uniform * cumulative[:, -1]
    block = _find(masses, cumulative, target)
    # Where in its block the target lies, as a share, since block sums are rounded to float32.
    chosen = (torch.arange(rows, device=weights.device), block)
    mass = masses[chosen].to(torch.float64)
    share = (1 - (cumulative[chosen] - target) / mass).clamp(0, 1)
    within = draw(blocks[chosen], share)
    return (block * BLOCK_SIZE + within).clamp(max=size - 1)


def _find(weights: Tensor, cumulative: Tensor, target: Tensor) -> Tensor:
    """The first index of positive weight whose cumulative weight exceeds the row's target.

    A target that rounding has moved to the row's total or beyond finds the last index of positive weight.
    """
    cumulative = torch.where(weights > 0, cumulative, -1.0)
    below_total = torch.nextafter(cumulative.amax(dim=-1), torch.zeros_like(target))
    return (cumulative > torch.minimum(target, below_total).unsqueeze(1)).to(torch.uint8).argmax(dim=-1)
