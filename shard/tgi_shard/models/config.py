"""The switches of the decoder, read from a model's config.json."""

from dataclasses import dataclass

import torch

from tgi_shard.layers.activation import ACTIVATIONS
from tgi_shard.layers.rope import RopeConfig
from tgi_shard.models.config_reader import ConfigReader
from tgi_shard.models.errors import ConfigError
from tgi_shard.models.rope_config import read_rope

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types that a model can be served in, by the names that options and config.json give them."""

MAX_LAYERS = 10_000
"""Far more than any model has: a wrong number must be told of, not fill the memory."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that shapes the decoder.

    Attributes:
        max_position_embeddings: longest sequence the model was made for, in tokens.
        qkv_bias: the query, key and value projections have biases.
        o_bias: the attention's output projection has one.
        mlp_bias: all projections of the MLP have biases.
        qk_norm: queries and keys are normalized head by head before they are rotated.
        windows: for each layer how many positions back a token attends, itself included; None for all.
        torch_dtype: the type the checkpoint says it is in, if it is one that can be served.
        eos_token_ids: ids that end a text, as config.json has them; generation_config.json may know more.
    """

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    rms_norm_eps: float
    hidden_act: str
    max_position_embeddings: int
    rope: RopeConfig
    tie_word_embeddings: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool
    windows: tuple[int | None, ...]
    torch_dtype: torch.dtype | None
    eos_token_ids: tuple[int, ...]

    def kv_heads_per_rank(self, world_size: int) -> int:
        """Key-value heads of one rank; with fewer heads than ranks, each rank keeps one that others have too.

        Raises:
            ConfigError: the heads cannot be spread evenly.
        """
        if self.num_kv_heads % world_size == 0:
            return self.num_kv_heads // world_size
        if world_size % self.num_kv_heads == 0:
            return 1
        raise ConfigError(
            f"{self.num_kv_heads} key-value heads cannot be spread evenly over {world_size} shards; "
            f"choose a number of shards that divides {self.num_kv_heads} or is a multiple of it"
        )

    def check_world_size(self, world_size: int) -> None:
        """Refuse a number of shards that the model cannot be cut into.

        Raises:
            ConfigError: naming the size that does not divide.
        """
        for name, size in (
            ("num_attention_heads", self.num_heads),
            ("intermediate_size", self.intermediate_size),
        ):
            if size % world_size:
                raise ConfigError(
                    f"{name} is {size}, which {world_size} shards do not divide; choose another number"
                )
        self.kv_heads_per_rank(world_size)


def read_common(reader: ConfigReader) -> ModelConfig:
    """Read what all families share; a family replaces the switches in which it differs.

    Raises:
        ConfigError: a setting is missing, wrong, contradicts another, or is not supported.
    """
    if (quantization := reader.section("quantization_config")) is not None:
        method = quantization.text("quant_method", "unknown")
        raise ConfigError(f"the checkpoint is quantized ({method}), which is not supported yet")
    hidden_size = reader.integer("hidden_size")
    num_heads = reader.integer("num_attention_heads")
    num_kv_heads = reader.integer("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise ConfigError(
            f"config.json: num_key_value_heads {num_kv_heads} does not divide num_attention_heads {num_heads}"
        )
    num_layers = reader.integer("num_hidden_layers")
    if num_layers > MAX_LAYERS:
        raise ConfigError(
            f"config.json: num_hidden_layers is {num_layers}; at most {MAX_LAYERS} can be served"
        )
    head_dim = _read_head_dim(reader, hidden_size, num_heads)
    max_position_embeddings = reader.integer("max_position_embeddings")
    return ModelConfig(
        model_type=reader.text("model_type"),
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        intermediate_size=reader.integer("intermediate_size"),
        vocab_size=reader.integer("vocab_size"),
        rms_norm_eps=reader.number("rms_norm_eps", 1e-6),
        hidden_act=_read_activation(reader),
        max_position_embeddings=max_position_embeddings,
        rope=read_rope(reader, head_dim, max_position_embeddings),
        tie_word_embeddings=reader.flag("tie_word_embeddings", default=False),
        qkv_bias=False,
        o_bias=False,
        mlp_bias=False,
        qk_norm=False,
        windows=(None,) * num_layers,
        torch_dtype=_read_dtype(reader),
        eos_token_ids=reader.token_ids("eos_token_id"),
    )


def read_layer_windows(reader: ConfigReader, num_layers: int) -> tuple[int | None, ...]:
    """The windows of families in which some layers slide: use_sliding_window, max_window_layers, layer_types.

    Raises:
        ConfigError: layer_types does not fit the layers, or a layer slides without a window.
    """
    used = reader.flag("use_sliding_window", default=False)
    window = reader.optional_integer("sliding_window") if used else None
    kinds = reader.texts("layer_types")
    if kinds is None:
        first_sliding = (
            num_layers if window is None else _whole_number(reader, "max_window_layers", num_layers)
        )
        return tuple(window if layer >= first_sliding else None for layer in range(num_layers))
    if len(kinds) != num_layers:
        raise ConfigError(f"config.json: layer_types has {len(kinds)} entries for {num_layers} layers")
    if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
        raise ConfigError(f"config.json: layer_types names {min(unknown)!r}, which is not supported")
    if window is None and "sliding_attention" in kinds:
        raise ConfigError("config.json: layer_types has sliding layers, but no sliding_window is in use")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _whole_number(reader: ConfigReader, key: str, default: int) -> int:
    """As `ConfigReader.integer`, but 0 counts."""
    return 0 if reader.values.get(key) == 0 else reader.integer(key, default)


def _read_head_dim(reader: ConfigReader, hidden_size: int, num_heads: int) -> int:
    if "head_dim" in reader:
        return reader.integer("head_dim")
    if hidden_size % num_heads:
        raise ConfigError(
            f"config.json lacks 'head_dim', and hidden_size {hidden_size} is no multiple of "
            f"num_attention_heads {num_heads}"
        )
    return hidden_size // num_heads


def _read_activation(reader: ConfigReader) -> str:
    name = reader.text("hidden_act", "silu")
    if name not in ACTIVATIONS:
        raise ConfigError(f"config.json: hidden_act {name!r} is not one of {', '.join(ACTIVATIONS)}")
    return name


def _read_dtype(reader: ConfigReader) -> torch.dtype | None:
    """`dtype` since transformers 5, `torch_dtype` before; a type we cannot serve in counts as none."""
    name = reader.text("dtype" if "dtype" in reader else "torch_dtype", "")
    return DTYPES.get(name.removeprefix("torch."))
