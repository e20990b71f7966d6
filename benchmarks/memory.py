"""How much memory a server's processes hold, and how much of it the model must."""

import contextlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from safetensors import safe_open

_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """One process, in bytes.

    Attributes:
        name: what it runs.
        resident: pages in memory, those shared with other processes in full.
        peak_resident: the most that was ever resident.
        proportional: pages in memory, shared ones divided by the processes that share them: these add up.
    """

    name: str
    resident: int
    peak_resident: int
    proportional: int


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """All processes of a server after a case, the largest first.

    Attributes:
        kv_cache: bytes of the KV blocks that hold something; None if the server does not tell.
    """

    processes: tuple[ProcessMemory, ...]
    kv_cache: int | None

    @property
    def proportional(self) -> int:
        """Bytes that the server takes altogether."""
        return sum(process.proportional for process in self.processes)


def read_processes(processes: Iterable[psutil.Process]) -> tuple[ProcessMemory, ...]:
    """Ask the system about each process that is alive; the largest comes first."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            memory = process.memory_full_info()
            peak = _peak_resident(Path(f"/proc/{process.pid}/status").read_text())
            name = name_of(process.cmdline())
            found.append(ProcessMemory(name, memory.rss, max(peak, memory.rss), memory.pss))
    return tuple(sorted(found, key=lambda each: each.resident, reverse=True))


def _peak_resident(status: str) -> int:
    """Find the high-water mark among the facts of proc(5)'s `status`, which are in KiB."""
    marks = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(next(marks, 0))


def name_of(command: Sequence[str]) -> str:
    """Name what a command line runs, without any folder; Python is named by its module or script."""
    words = [word for word in command if word]
    if not words:
        return "unknown"
    program, *rest = words
    if not Path(program).name.startswith("python"):
        return Path(program).name
    if "-c" in rest:
        return "python -c"
    if "-m" in rest[:-1]:
        return rest[rest.index("-m") + 1]
    return Path(next((word for word in rest if not word.startswith("-")), program)).name


def weight_bytes(checkpoint: Path, dtype: str) -> int:
    """Bytes of a checkpoint's weights in a number format, each tensor once."""
    elements = 0
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as tensors:
            names = tensors.keys()
            elements += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return elements * _ITEM_BYTES[dtype]


def kv_bytes_per_token(checkpoint: Path, dtype: str) -> int:
    """Bytes of one token's keys and values in all layers."""
    config = json.loads((checkpoint / "config.json").read_bytes())
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    values = 2 * config["num_hidden_layers"] * config.get("num_key_value_heads", heads) * head_size
    return int(values) * _ITEM_BYTES[dtype]
