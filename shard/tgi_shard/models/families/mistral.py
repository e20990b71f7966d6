"""Mistral: a Llama in which, in some versions, every layer attends through a sliding window."""

from dataclasses import replace

from tgi_shard.models.config import ModelConfig, read_common
from tgi_shard.models.config_reader import ConfigReader
from tgi_shard.models.families.family import Family
from tgi_shard.models.weight_names import WeightNames


def read_config(reader: ConfigReader) -> ModelConfig:
    """`sliding_window` is null where there is none."""
    common = read_common(reader)
    return replace(common, windows=(reader.optional_integer("sliding_window"),) * common.num_layers)


MISTRAL = Family("mistral", read_config, WeightNames())
