"""A language model: tokens in, hidden states out, and logits for the ones that need them."""

from typing import cast

from torch import Tensor, nn

from tgi_shard.attention.interface import AttentionPlan
from tgi_shard.attention.metadata import AttentionMetadata
from tgi_shard.backend import Backend
from tgi_shard.cache.paged import KVCache
from tgi_shard.layers.embedding import LanguageHead, VocabularyEmbedding
from tgi_shard.layers.norm import RMSNorm
from tgi_shard.layers.rope import RotaryEmbedding, Rotation
from tgi_shard.models.config import ModelConfig
from tgi_shard.models.decoder import DecoderLayer


class CausalLM(nn.Module):
    """One rank of a decoder-only model; use it under `torch.inference_mode()`.

    Attributes:
        config: its sizes and switches.
        backend: what it computes with; the block size of its attention is the cache's.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        embedding: VocabularyEmbedding,
        layers: list[DecoderLayer],
        norm: RMSNorm,
        head: LanguageHead,
        rotary: RotaryEmbedding,
        backend: Backend,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.head = head
        self.rotary = rotary
        self.backend = backend

    @property
    def vocab_size(self) -> int:
        """Number of logits."""
        return self.config.vocab_size

    def forward(self, input_ids: Tensor, metadata: AttentionMetadata, cache: KVCache) -> Tensor:
        """Compute a step and write its keys and values into the cache.

        Args:
            input_ids: [tokens] int64, laid out as `metadata` says.
            metadata: the step's layout.
            cache: keys and values of the tokens before; all ranks have their own.

        Returns:
            [tokens, hidden], the same on every rank.
        """
        rotation = self.rotary(metadata.position_ids, self.norm.weight.dtype)
        plan = self.backend.attention.plan(metadata, cache)
        return self.backend.steps.run(self._compute, input_ids, rotation, plan)

    def _compute(self, input_ids: Tensor, rotation: Rotation, attention: AttentionPlan) -> Tensor:
        hidden: Tensor = self.embedding(input_ids)
        delta: Tensor | None = None
        for layer in self.layers:
            hidden, delta = layer(hidden, delta, rotation, attention)
        _, normed = self.norm(hidden, delta)
        return cast("Tensor", normed)

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, hidden] to [rows, vocab_size] in the model's type, the same on every rank."""
        logits: Tensor = self.head(hidden)
        return logits
