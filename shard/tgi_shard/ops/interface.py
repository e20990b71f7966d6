"""The operations that a layer asks for; how they are computed is the implementation's matter."""

from typing import Protocol

from torch import Tensor

from tgi_shard.layers.rope import Rotation
from tgi_shard.quantization.weights import Int8Weight, Weight


class Matrix(Protocol):
    """A weight matrix in whatever form its implementation multiplies fastest."""

    def multiply(self, x: Tensor) -> Tensor:
        """[rows, inputs] to [rows, outputs]."""


class EmbeddingMatrix(Matrix, Protocol):
    """A matrix that also serves as a table: the output head of a model with tied embeddings."""

    def rows(self, ids: Tensor) -> Tensor:
        """The weights of some outputs: [ids] int64 to [ids, inputs]."""


class Operations(Protocol):
    """Everything between two weights.

    Results are rounded to the model's type where torch's operations would round them.

    Attributes:
        name: for the log.
    """

    name: str

    def matrix(self, weight: Weight, bias: Tensor | None = None) -> Matrix:
        """Prepare [outputs, inputs] weights, which the caller forgets, for `x @ weight.T + bias`."""

    def embedding_matrix(self, weight: Tensor | Int8Weight) -> EmbeddingMatrix:
        """As `matrix`, for an output head that may be the embedding too."""

    def gated_matrix(self, weight: Weight, bias: Tensor | None, activation: str) -> Matrix:
        """Prepare a gated MLP's first half: `act(x @ gate.T) * (x @ up.T)`.

        Args:
            weight: [2 * inner, inputs]: gate above up.
            bias: [2 * inner], or None.
            activation: one of ACTIVATIONS.
        """

    def add_norm(
        self, hidden: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """Answer `hidden + delta` and its RMS norm times `weight`; `hidden` may be overwritten.

        Args:
            hidden: [tokens, size].
            delta: the same, or None for nothing to add.
            weight: [size].
            eps: added to the mean square.
        """

    def norm_heads(self, heads: Tensor, weight: Tensor, eps: float) -> Tensor:
        """RMS norm of [tokens, heads, head_dim] over the last dimension; `heads` may be overwritten.

        `weight` is [heads, head_dim].
        """

    def rotate(self, heads: Tensor, rotation: Rotation) -> Tensor:
        """Turn [tokens, heads, head_dim] queries or keys; `heads` may be overwritten."""

    def greedy(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest token of each row and its log-probability; see `GreedyKernel`."""
