"""Finds the scale and the zero of each group of four-bit weights that leave the least squared error.

Even steps from a group's least weight to its greatest spend codes on outliers. So narrower ranges are tried
too, and for each the line that fits its codes best: its slope is the scale, its offset the zero.
"""

import torch
from torch import Tensor

from tgi_shard.quantization.weights import INT4_GROUP

_LOWEST, _HIGHEST = -8, 7
"""Codes, as seen from the zero."""

_RANGES = ((1.0, 1.0), (0.94, 1.0), (1.0, 0.94))
"""What part of the way from the mean to the least and to the greatest weight is tried as a range."""


class _Fits:
    """The best line found yet for each group.

    Attributes:
        scales: slopes: [groups].
        zeros: offsets, from the group's mean: [groups].
    """

    def __init__(self, groups: Tensor) -> None:
        """Take [32, groups], whose means are zero."""
        self._groups = groups
        self._codes = torch.empty_like(groups)
        self._products = torch.empty_like(groups)
        self._explained = groups.new_full(groups.shape[1:], -1.0)
        self.scales = torch.zeros_like(self._explained)
        self.zeros = torch.zeros_like(self._explained)

    def codes(self, scales: Tensor, zeros: Tensor) -> Tensor:
        """The codes nearest to the weights, to be used before the next ones are asked for: [32, groups]."""
        steps = divisible(scales).reciprocal()
        torch.addcmul(-zeros * steps, self._groups, steps, out=self._codes)
        return self._codes.round_().clamp_(_LOWEST, _HIGHEST)

    def try_codes(self, scales: Tensor, zeros: Tensor) -> None:
        """Fit a line through the codes that these give; keep it where it explains more of the variance."""
        codes = self.codes(scales, zeros)
        means = codes.mean(0)
        covariances = torch.mul(codes, self._groups, out=self._products).mean(0)
        variances = torch.mul(codes, codes, out=self._products).mean(0) - means.square()
        slopes = covariances / divisible(variances)
        explained = slopes * covariances
        better = explained > self._explained
        self._explained = torch.where(better, explained, self._explained)
        self.scales = torch.where(better, slopes, self.scales)
        self.zeros = torch.where(better, -slopes * means, self.zeros)


def fit_groups(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and zeros as `Int4Weight` has them.

    Args:
        rows: [outputs, inputs] float32; inputs are a multiple of 32, weights below 1e37.
    """
    # One group a column: sums over a group then run over whole vectors.
    groups = rows.view(-1, INT4_GROUP).T.contiguous()
    means = groups.mean(0)
    groups = groups - means
    fits = _Fits(groups)
    least, greatest = groups.amin(0), groups.amax(0)  # aminmax is ten times slower
    for part_below, part_above in _RANGES:
        lowest = least * part_below
        scales = (greatest * part_above - lowest) / (_HIGHEST - _LOWEST)
        fits.try_codes(scales, lowest - _LOWEST * scales)
    fits.try_codes(fits.scales, fits.zeros)
    scales, zeros = fits.scales.bfloat16(), (fits.zeros + means).bfloat16()
    codes = (fits.codes(scales.float(), zeros.float() - means) - _LOWEST).to(torch.uint8)
    return codes.T.reshape(rows.shape), scales.view(len(rows), -1), zeros.view(len(rows), -1)


def divisible(scales: Tensor) -> Tensor:
    """Ones for zeros: a group of equal weights has no steps."""
    return torch.where(scales == 0, 1.0, scales)
