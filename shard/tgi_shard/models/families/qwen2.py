"""Qwen 2 and 2.5: biases on query, key and value; if switched on, a sliding window on the upper layers."""

from dataclasses import replace

from tgi_shard.models.config import ModelConfig, read_common, read_layer_windows
from tgi_shard.models.config_reader import ConfigReader
from tgi_shard.models.families.family import Family
from tgi_shard.models.weight_names import WeightNames


def read_config(reader: ConfigReader) -> ModelConfig:
    """The biases are no setting: all models have them."""
    common = read_common(reader)
    return replace(common, qkv_bias=True, windows=read_layer_windows(reader, common.num_layers))


QWEN2 = Family("qwen2", read_config, WeightNames())
