"""Matrix products whose weights are spread over the ranks.

A column-parallel layer splits its outputs: each rank computes its own, no exchange. A row-parallel layer
takes such split inputs: each rank computes a summand of every output, and the ranks add them up.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from tgi_shard.distributed import Collective
from tgi_shard.layers.loading import Part, WeightLoader


class Linear(nn.Module):
    """`x @ weight.T + bias` with the weights of this rank: [..., inputs] to [..., outputs]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False) if bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return functional.linear(x, self.weight, self.bias)


class RowParallelLinear(Linear):
    """A linear layer whose inputs are split: the products of all ranks are summed."""

    def __init__(self, weight: Tensor, bias: Tensor | None, collective: Collective) -> None:
        super().__init__(weight, bias)
        self.collective = collective

    def forward(self, x: Tensor) -> Tensor:
        """Multiply, and sum over the ranks."""
        return self.collective.all_reduce(super().forward(x))


def load_column_parallel(loader: WeightLoader, parts: Sequence[Part], inputs: int, *, bias: bool) -> Linear:
    """One layer of several projections, this rank's outputs of each side by side.

    Args:
        loader: reads the tensors.
        parts: prefixes of the projections ("….q_proj") and the outputs this rank computes.
        inputs: size of the input.
        bias: every projection has one.

    Raises:
        WeightsError: a tensor is missing, or has another shape.
    """
    weights = [Part(f"{part.name}.weight", part.span) for part in parts]
    biases = [Part(f"{part.name}.bias", part.span) for part in parts]
    return Linear(loader.rows(weights, inputs), loader.rows(biases) if bias else None)


def load_row_parallel(
    loader: WeightLoader, part: Part, outputs: int, collective: Collective, *, bias: bool
) -> RowParallelLinear:
    """A layer for this rank's part of the inputs.

    Args:
        loader: reads the tensors.
        part: the projection's prefix and the inputs this rank has.
        outputs: size of the output.
        collective: sums over the ranks.
        bias: the projection has one; rank 0 adds it.

    Raises:
        WeightsError: a tensor is missing, or has another shape.
    """
    weight = loader.columns(Part(f"{part.name}.weight", part.span), outputs)
    own_bias = loader.whole(f"{part.name}.bias", (outputs,)) if bias else None
    return RowParallelLinear(weight, own_bias if collective.world.rank == 0 else None, collective)
