"""Llama 1 to 3.x, and the many models that are built like them."""

from dataclasses import replace

from tgi_shard.models.config import ModelConfig, read_common
from tgi_shard.models.config_reader import ConfigReader
from tgi_shard.models.families.family import Family
from tgi_shard.models.weight_names import WeightNames


def read_config(reader: ConfigReader) -> ModelConfig:
    """Biases are two switches: one for all of attention, one for the MLP."""
    attention_bias = reader.flag("attention_bias", default=False)
    return replace(
        read_common(reader),
        qkv_bias=attention_bias,
        o_bias=attention_bias,
        mlp_bias=reader.flag("mlp_bias", default=False),
    )


LLAMA = Family("llama", read_config, WeightNames())
