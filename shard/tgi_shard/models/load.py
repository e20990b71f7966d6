"""Builds a model from its config.json and its weights."""

import structlog
import torch

from tgi_shard.backend import Backend
from tgi_shard.distributed import Collective
from tgi_shard.layers.embedding import LanguageHead, VocabularyEmbedding, load_vocabulary_rows
from tgi_shard.layers.loading import WeightLoader, Weights
from tgi_shard.layers.matrices import MatrixMaker
from tgi_shard.layers.norm import RMSNorm
from tgi_shard.layers.partition import split_vocabulary
from tgi_shard.layers.rope import RotaryEmbedding
from tgi_shard.models.causal_lm import CausalLM
from tgi_shard.models.config import ModelConfig
from tgi_shard.models.decoder import DecoderLayer, LayerSource
from tgi_shard.models.registry import FAMILIES
from tgi_shard.models.weight_names import WeightNames
from tgi_shard.ops.interface import EmbeddingMatrix, Matrix, Operations
from tgi_shard.ops.torch_ops import TorchMatrix
from tgi_shard.platform import Platform
from tgi_shard.quantization.schemes import UNQUANTIZED, Scheme

_HARMLESS = ("rotary_emb.inv_freq", "lm_head.weight")
"""Ends of names that checkpoints carry though nobody needs them: old buffers, tied heads."""


def load_model(
    config: ModelConfig,
    weights: Weights,
    platform: Platform,
    collective: Collective,
    dtype: torch.dtype,
    backend: Backend,
    max_length: int,
    scheme: Scheme = UNQUANTIZED,
) -> CausalLM:
    """Read this rank's part of a model.

    Args:
        config: what shapes it, from its config.json.
        weights: its tensors.
        platform: where they go.
        collective: connects the ranks; says which one this is.
        dtype: the type to compute in.
        backend: computes.
        max_length: longest sequence that will be served, in tokens; sets the base of dynamic rope scaling.
        scheme: how the weights are quantized.

    Raises:
        ConfigError: it cannot be cut into so many ranks.
        WeightsError: a tensor is missing, or has another shape than the config says.
    """
    names = FAMILIES[config.model_type].names
    config.check_world_size(collective.world.size)
    loader = WeightLoader(weights, platform.device, dtype)
    table, head = _load_vocabulary(config, names, loader, backend.operations, scheme, collective)
    matrices = MatrixMaker(scheme.layers, backend.operations)
    layers = [
        DecoderLayer(LayerSource(config, names, loader, matrices, collective, index))
        for index in range(config.num_layers)
    ]
    norm = loader.whole(names.norm, (config.hidden_size,))
    model = CausalLM(
        config,
        embedding=VocabularyEmbedding(
            table, split_vocabulary(config.vocab_size, collective.world), collective
        ),
        layers=layers,
        norm=RMSNorm(backend.operations, norm, config.rms_norm_eps),
        head=LanguageHead(head, config.vocab_size, collective),
        rotary=RotaryEmbedding(config.rope, max_length, platform.device),
        backend=backend,
    )
    _warn_of_unread(weights, loader)
    return model.eval()


def _load_vocabulary(
    config: ModelConfig,
    names: WeightNames,
    loader: WeightLoader,
    operations: Operations,
    scheme: Scheme,
    collective: Collective,
) -> tuple[EmbeddingMatrix, Matrix]:
    """The embedding and the head; tied to each other they are one matrix."""
    sizes = (config.vocab_size, config.hidden_size)
    rows = load_vocabulary_rows(loader, names.embedding, *sizes, collective)
    if config.tie_word_embeddings:
        head = operations.embedding_matrix(scheme.head(rows))
        return head, head
    head_rows = load_vocabulary_rows(loader, names.head, *sizes, collective)
    return TorchMatrix(rows), operations.embedding_matrix(scheme.head(head_rows))


def _warn_of_unread(weights: Weights, loader: WeightLoader) -> None:
    """Say what the checkpoint holds beyond what the config asks for: it may be a sign of a wrong config."""
    unread = sorted(
        name for name in weights.names() if name not in loader.read and not name.endswith(_HARMLESS)
    )
    if unread:
        structlog.get_logger().warning(
            "Tensors of the checkpoint are not used", count=len(unread), first=unread[:5]
        )
