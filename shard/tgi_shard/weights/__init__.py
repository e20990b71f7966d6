"""Reads a model's weights: safetensors in memory-mapped slices; other checkpoints are converted once."""

from tgi_shard.weights.download import prepare_weights
from tgi_shard.weights.errors import WeightsError
from tgi_shard.weights.safetensors_files import SafetensorsWeights, open_weights

__all__ = ["SafetensorsWeights", "WeightsError", "open_weights", "prepare_weights"]
