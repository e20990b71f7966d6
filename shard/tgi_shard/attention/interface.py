"""What an attention backend is: a plan made once per step, then one call per layer."""

from typing import Protocol

from torch import Tensor

from tgi_shard.attention.metadata import AttentionMetadata
from tgi_shard.cache.paged import KVCache


class AttentionPlan(Protocol):
    """One step's attention: all that depends on the step's layout but not on the layer is already done."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, layer: int, window: int | None, scale: float
    ) -> Tensor:
        """Write the step's keys and values into the cache, then attend causally over each sequence's context.

        A token at position i attends the keys at positions (i - window, i], or [0, i] without a window.

        Args:
            query: [tokens, heads, head_dim]; heads is a multiple of kv_heads.
            key: [tokens, kv_heads, head_dim], rotated already.
            value: [tokens, kv_heads, head_dim].
            layer: whose part of the cache to use.
            window: how many positions back a token sees, itself included; None for all.
            scale: factor on the scores, usually head_dim ** -0.5.

        Returns:
            [tokens, heads * head_dim], in the dtype of the query.
        """


class AttentionBackend(Protocol):
    """A way to compute paged attention on some device.

    Attributes:
        name: what `Info` reports and an option selects.
        block_size: tokens per cache block that this backend wants.
    """

    name: str
    block_size: int

    def plan(self, metadata: AttentionMetadata, cache: KVCache) -> AttentionPlan:
        """Prepare one step; called once, before the first layer."""
