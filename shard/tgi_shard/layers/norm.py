"""Root mean square normalization."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x**2) + eps) * weight` over the last dimension (arXiv 1910.07467).

    The mean is taken in float32, and the result rounded to the input's type before it is scaled: where
    transformers rounds too, so that both give the same bits.
    """

    def __init__(self, weight: Tensor, eps: float) -> None:
        """Take a weight that broadcasts against the input: [size], or [heads, size] for one row per head."""
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize; shape and type stay."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)
