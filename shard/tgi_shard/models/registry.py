"""Finds the family that serves a model."""

from tgi_shard.models.config import ModelConfig
from tgi_shard.models.config_reader import ConfigReader, JsonObject
from tgi_shard.models.errors import UnknownModelError
from tgi_shard.models.families.family import Family
from tgi_shard.models.families.llama import LLAMA
from tgi_shard.models.families.mistral import MISTRAL
from tgi_shard.models.families.qwen2 import QWEN2
from tgi_shard.models.families.qwen3 import QWEN3

FAMILIES = {family.model_type: family for family in (LLAMA, MISTRAL, QWEN2, QWEN3)}


def find_family(config: JsonObject) -> Family:
    """The family that a config.json names.

    Raises:
        UnknownModelError: it is none of those served, or none is named.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnknownModelError(model_type, FAMILIES)
    return FAMILIES[model_type]


def read_model_config(config: JsonObject) -> ModelConfig:
    """Read a config.json.

    Raises:
        ConfigError: a setting is missing, wrong or not supported, the model's type included.
    """
    return find_family(config).read_config(ConfigReader(config))
