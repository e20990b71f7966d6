"""Matrix products whose weights are spread over the ranks.

A column-parallel layer splits its outputs: each rank computes its own, no exchange. A row-parallel layer
takes such split inputs: each rank computes a summand of every output, and the ranks add them up.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from tgi_shard.distributed import Collective
from tgi_shard.layers.loading import Part, WeightLoader
from tgi_shard.layers.matrices import MatrixMaker
from tgi_shard.ops.interface import Matrix


class Linear(nn.Module):
    """A product with the weights of this rank: [tokens, inputs] to [tokens, outputs]."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return self.matrix.multiply(x)


class RowParallelLinear(Linear):
    """A linear layer whose inputs are split: the products of all ranks are summed."""

    def __init__(self, matrix: Matrix, collective: Collective) -> None:
        super().__init__(matrix)
        self.collective = collective

    def forward(self, x: Tensor) -> Tensor:
        """Multiply, and sum over the ranks."""
        return self.collective.all_reduce(super().forward(x))


def load_column_parallel(
    loader: WeightLoader, matrices: MatrixMaker, parts: Sequence[Part], inputs: int, *, bias: bool
) -> Linear:
    """One layer of several projections, this rank's outputs of each side by side.

    Args:
        loader: reads the tensors.
        matrices: makes matrices of them.
        parts: prefixes of the projections ("….q_proj") and the outputs this rank computes.
        inputs: size of the input.
        bias: every projection has one.

    Raises:
        WeightsError: a tensor is missing, or has another shape.
    """
    weight = loader.rows([Part(f"{part.name}.weight", part.span) for part in parts], inputs)
    biases = loader.rows([Part(f"{part.name}.bias", part.span) for part in parts]) if bias else None
    return Linear(matrices.make(weight, biases))


def load_gated(
    loader: WeightLoader,
    matrices: MatrixMaker,
    parts: tuple[Part, Part],
    inputs: int,
    activation: str,
    *,
    bias: bool,
) -> Linear:
    """The first half of a gated MLP, `act(gate(x)) * up(x)`, with this rank's inner dimensions.

    Args:
        loader: reads the tensors.
        matrices: makes matrices of them.
        parts: prefixes of the gate's and the values' projections, and the outputs this rank computes.
        inputs: size of the input.
        activation: one of ACTIVATIONS.
        bias: both projections have one.

    Raises:
        WeightsError: a tensor is missing, or has another shape.
    """
    weight = loader.rows([Part(f"{part.name}.weight", part.span) for part in parts], inputs)
    biases = loader.rows([Part(f"{part.name}.bias", part.span) for part in parts]) if bias else None
    return Linear(matrices.make_gated(weight, biases, activation))


def load_row_parallel(
    loader: WeightLoader,
    matrices: MatrixMaker,
    part: Part,
    outputs: int,
    collective: Collective,
    *,
    bias: bool,
) -> RowParallelLinear:
    """A layer for this rank's part of the inputs.

    Args:
        loader: reads the tensors.
        matrices: makes matrices of them.
        part: the projection's prefix and the inputs this rank has.
        outputs: size of the output.
        collective: sums over the ranks.
        bias: the projection has one; rank 0 adds it.

    Raises:
        WeightsError: a tensor is missing, or has another shape.
    """
    weight = loader.columns(Part(f"{part.name}.weight", part.span), outputs)
    own_bias = loader.whole(f"{part.name}.bias", (outputs,)) if bias else None
    matrix = matrices.make(weight, own_bias if collective.world.rank == 0 else None)
    return RowParallelLinear(matrix, collective)
