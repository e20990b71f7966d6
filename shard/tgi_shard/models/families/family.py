"""What a family of models is to the decoder: data."""

from collections.abc import Callable
from dataclasses import dataclass

from tgi_shard.models.config import ModelConfig
from tgi_shard.models.config_reader import ConfigReader
from tgi_shard.models.weight_names import WeightNames


@dataclass(frozen=True, slots=True)
class Family:
    """Models that differ in size only.

    Attributes:
        model_type: what config.json calls it.
        read_config: sets the decoder's switches; raises ConfigError.
        names: its tensors' names.
    """

    model_type: str
    read_config: Callable[[ConfigReader], ModelConfig]
    names: WeightNames
