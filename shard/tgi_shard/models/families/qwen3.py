"""Qwen 3 (dense): queries and keys are normalized head by head, head_dim is a setting of its own."""

from dataclasses import replace

from tgi_shard.models.config import ModelConfig, read_common, read_layer_windows
from tgi_shard.models.config_reader import ConfigReader
from tgi_shard.models.families.family import Family
from tgi_shard.models.weight_names import WeightNames

DEFAULT_HEAD_DIM = 128


def read_config(reader: ConfigReader) -> ModelConfig:
    """`head_dim` does not follow from the other sizes, so a config without it means the family's default."""
    if "head_dim" not in reader:
        reader = ConfigReader({**reader.values, "head_dim": DEFAULT_HEAD_DIM})
    common = read_common(reader)
    attention_bias = reader.flag("attention_bias", default=False)
    return replace(
        common,
        qkv_bias=attention_bias,
        o_bias=attention_bias,
        qk_norm=True,
        windows=read_layer_windows(reader, common.num_layers),
    )


QWEN3 = Family("qwen3", read_config, WeightNames())
