"""Builds a model from its config.json and its weights."""

import structlog
import torch
from torch import nn

from tgi_shard.attention.interface import AttentionBackend
from tgi_shard.distributed import Collective
from tgi_shard.layers.embedding import LanguageHead, VocabularyEmbedding, load_vocabulary_rows
from tgi_shard.layers.loading import WeightLoader, Weights
from tgi_shard.layers.norm import RMSNorm
from tgi_shard.layers.partition import split_vocabulary
from tgi_shard.layers.rope import RotaryEmbedding
from tgi_shard.models.causal_lm import CausalLM
from tgi_shard.models.config import ModelConfig
from tgi_shard.models.decoder import DecoderLayer, LayerSource
from tgi_shard.models.registry import FAMILIES
from tgi_shard.models.weight_names import WeightNames
from tgi_shard.platform import Platform

_HARMLESS = ("rotary_emb.inv_freq", "lm_head.weight")
"""Ends of names that checkpoints carry though nobody needs them: old buffers, tied heads."""


def load_model(
    config: ModelConfig,
    weights: Weights,
    platform: Platform,
    collective: Collective,
    dtype: torch.dtype,
    attention: AttentionBackend,
    max_length: int,
) -> CausalLM:
    """Read this rank's part of a model.

    Args:
        config: what shapes it, from its config.json.
        weights: its tensors.
        platform: where they go.
        collective: connects the ranks; says which one this is.
        dtype: the type to compute in.
        attention: the backend that attends.
        max_length: longest sequence that will be served, in tokens; sets the base of dynamic rope scaling.

    Raises:
        ConfigError: it cannot be cut into so many ranks.
        WeightsError: a tensor is missing, or has another shape than the config says.
    """
    names = FAMILIES[config.model_type].names
    config.check_world_size(collective.world.size)
    loader = WeightLoader(weights, platform.device, dtype)
    embedding = VocabularyEmbedding(
        load_vocabulary_rows(loader, names.embedding, config.vocab_size, config.hidden_size, collective),
        split_vocabulary(config.vocab_size, collective.world).start,
        collective,
    )
    layers = [
        DecoderLayer(LayerSource(config, names, loader, collective, index))
        for index in range(config.num_layers)
    ]
    model = CausalLM(
        config,
        embedding=embedding,
        layers=layers,
        norm=RMSNorm(loader.whole(names.norm, (config.hidden_size,)), config.rms_norm_eps),
        head=_load_head(config, names, loader, collective, embedding),
        rotary=RotaryEmbedding(config.rope, max_length, platform.device),
        attention=attention,
    )
    _warn_of_unread(weights, loader)
    return model.eval()


def _load_head(
    config: ModelConfig,
    names: WeightNames,
    loader: WeightLoader,
    collective: Collective,
    embedding: VocabularyEmbedding,
) -> LanguageHead:
    """The head; tied to the embedding it shares that one's memory."""
    if config.tie_word_embeddings:
        return LanguageHead(embedding.weight, config.vocab_size, collective)
    rows = load_vocabulary_rows(loader, names.head, config.vocab_size, config.hidden_size, collective)
    return LanguageHead(nn.Parameter(rows, requires_grad=False), config.vocab_size, collective)


def _warn_of_unread(weights: Weights, loader: WeightLoader) -> None:
    """Say what the checkpoint holds beyond what the config asks for: it may be a sign of a wrong config."""
    unread = sorted(
        name for name in weights.names() if name not in loader.read and not name.endswith(_HARMLESS)
    )
    if unread:
        structlog.get_logger().warning(
            "Tensors of the checkpoint are not used", count=len(unread), first=unread[:5]
        )
