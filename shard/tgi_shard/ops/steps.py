"""Who runs a model's layers: operation by operation, or as a graph recorded before."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from tgi_shard.attention.interface import AttentionPlan
from tgi_shard.layers.rope import Rotation

Body = Callable[[Tensor, Rotation, AttentionPlan], Tensor]
"""A model from token ids to hidden states."""


class StepRunner(Protocol):
    """Runs steps of one model."""

    def run(self, body: Body, ids: Tensor, rotation: Rotation, plan: AttentionPlan) -> Tensor:
        """Compute `body(ids, rotation, plan)`.

        Args:
            body: always the same one.
            ids: [tokens] int64.
            rotation: of their positions.
            plan: their attention, by the backend that this runner belongs to.

        Returns:
            [tokens, hidden], which may be overwritten by the next step.
        """


class EagerSteps:
    """Operation by operation."""

    def run(self, body: Body, ids: Tensor, rotation: Rotation, plan: AttentionPlan) -> Tensor:
        """As `StepRunner.run`."""
        return body(ids, rotation, plan)
