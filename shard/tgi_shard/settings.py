"""Everything a shard was told at its start; read once in cli.py and passed down."""

from dataclasses import dataclass
from pathlib import Path

from tgi_common.choices import Quantization
from tgi_common.hub import ModelSource


@dataclass(frozen=True, slots=True)
class RopeOverride:
    """A RoPE scaling that takes the place of the checkpoint's: its type (linear, dynamic) and factor."""

    scaling: str
    factor: float


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What `serve` was asked for.

    Attributes:
        quantize: how the weights are kept; None for as they are.
        dtype: name of the weights' type; None for the checkpoint's own.
        uds_path: prefix of the socket; the rank is appended.
        max_total_tokens: longest prompt with its answer to serve; None for what config.json says.
        memory_fraction: part of the free memory for the KV cache; None for what suits the device.
        kernel_cache: where kernels compiled for this machine are kept; None to compute without them.
        converted_weights: where conversions of checkpoints go that lie in folders which cannot be written.
    """

    source: ModelSource
    rank: int
    world_size: int
    master_addr: str
    master_port: int
    uds_path: str
    dtype: str | None
    quantize: Quantization | None
    max_total_tokens: int | None
    memory_fraction: float | None
    rope: RopeOverride | None
    kernel_cache: Path | None
    converted_weights: Path
    trust_remote_code: bool
