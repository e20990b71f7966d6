"""Root mean square normalization."""

from torch import Tensor, nn

from tgi_shard.ops.interface import Operations


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x**2) + eps) * weight` over the last dimension (arXiv 1910.07467)."""

    def __init__(self, operations: Operations, weight: Tensor, eps: float) -> None:
        """Take [size] weights for the hidden states, or [heads, size] ones for a row to each head."""
        super().__init__()
        self.operations = operations
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.eps = eps

    def forward(self, hidden: Tensor, delta: Tensor | None) -> tuple[Tensor, Tensor]:
        """Answer `hidden + delta`, and that normalized; see `Operations.add_norm`."""
        return self.operations.add_norm(hidden, delta, self.weight, self.eps)

    def normalize_heads(self, heads: Tensor) -> Tensor:
        """Normalize each head of [tokens, heads, head_dim]; see `Operations.norm_heads`."""
        return self.operations.norm_heads(heads, self.weight, self.eps)
