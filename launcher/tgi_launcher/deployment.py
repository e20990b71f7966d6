"""What options and machine together decide: how many shards, with how many threads, meeting where."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgi_common.logging import LogLevel
from tgi_launcher.rules import SettingsError
from tgi_launcher.settings import Settings


@dataclass(frozen=True, slots=True)
class Deployment:
    """What options and machine together decide.

    Attributes:
        threads: for the arithmetic of each shard; None where the user's OMP_NUM_THREADS says it.
        address: IP address that the router listens on.
        offline: the Hub's files are all here: nobody asks it again, so that every rank loads the same ones.
        compute_type: what the router's header of that name says; None for what it finds itself.
    """

    sockets: tuple[Path, ...]
    master_port: int
    threads: int | None
    address: str
    log_level: LogLevel
    offline: bool = False
    compute_type: str | None = None

    @property
    def num_shard(self) -> int:
        """Number of shards."""
        return len(self.sockets)


def choose_num_shard(settings: Settings, gpus: int, config: Mapping[str, Any]) -> int:
    """How many shards to start.

    Args:
        settings: the options.
        gpus: how many GPUs may be used.
        config: the model's config.json.

    Raises:
        SettingsError: the options contradict each other, or the model cannot be cut into so many parts.
    """
    asked = settings.num_shard
    if settings.sharded == "false":
        if asked is not None and asked > 1:
            raise SettingsError(f"--sharded false contradicts --num-shard {asked}: give one of them")
        return 1
    if settings.sharded == "true":
        if asked == 1:
            raise SettingsError("--sharded true contradicts --num-shard 1: give one of them")
        if asked is None and gpus < 2:
            raise SettingsError(f"--sharded true needs --num-shard, since {gpus} GPUs are visible")
    if asked is not None:
        _check_shards(config, asked)
        return asked
    return max(count for count in range(1, max(gpus, 1) + 1) if _divides(config, count))


def choose_threads(num_shard: int, cores: int, environment: Mapping[str, str]) -> int | None:
    """Threads of each shard: the cores, divided between them; None where the user has chosen."""
    return None if environment.get("OMP_NUM_THREADS") else max(1, cores // num_shard)


def name_compute_type(num_shard: int, gpus: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Number and kind of the GPUs, as TGI writes them: `2-nvidia-a100-sxm4-80gb`."""
    if name := environment.get("COMPUTE_TYPE"):
        return name
    return f"{num_shard}-{re.sub(r'[^a-z0-9]+', '-', gpus[0].lower())}" if gpus else None


def _check_shards(config: Mapping[str, Any], count: int) -> None:
    """Refuse, before any of them is started, a number of shards that each of them would refuse."""
    for name in ("num_attention_heads", "intermediate_size"):
        if isinstance(size := config.get(name), int) and size % count:
            raise SettingsError(
                f"--num-shard {count} does not divide the model's {name}, which is {size}: choose another"
            )


def _divides(config: Mapping[str, Any], count: int) -> bool:
    """Whether the model's heads can be spread evenly over so many shards, as far as its config tells."""
    sizes = (config.get(name) for name in ("num_attention_heads", "num_key_value_heads"))
    return all(size % count == 0 for size in sizes if isinstance(size, int))
