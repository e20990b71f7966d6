"""What this machine has to offer: GPUs, cores that this process may use, and the facts that `--env` logs."""

import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_TOPOLOGY = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")
_QUERY_SECONDS = 20.0
_REPORTED_PACKAGES = ("torch", "transformers", "safetensors", "grpcio", "aiohttp", "huggingface-hub")


def list_gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver shows, in its order."""
    output = _run("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return [line.strip() for line in (output or "").splitlines() if line.strip()]


def count_visible_gpus(gpus: int, environment: Mapping[str, str]) -> int:
    """How many GPUs the shards may use, by the variables that restrict them (in TGI's order).

    Where no variable says anything, all that the driver shows; TGI uses one then.
    """
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"):
        value = environment.get(name)
        if value is None or (name == "NVIDIA_VISIBLE_DEVICES" and value in {"all", "void"}):
            continue
        # Parts from the first negative or empty one on are invisible: -1 and "" hide all.
        devices = 0
        for part in value.split(","):
            if not part.strip() or part.strip().startswith("-"):
                break
            devices += 1
        return devices
    return gpus


def count_usable_cores(topology: Path = _TOPOLOGY, cgroup: Path = _CGROUP) -> int:
    """Physical cores that this process may run on, at most what its CPU quota pays for; at least one."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    siblings = {_siblings(topology, cpu) for cpu in cpus}
    cores = len(siblings) or psutil.cpu_count(logical=False) or 1
    quota = _cpu_quota(cgroup)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def report_machine() -> dict[str, str]:
    """What `--env` logs."""
    facts = {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "cpu cores": f"{count_usable_cores()} usable, {psutil.cpu_count()} logical in all",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
    }
    for package in _REPORTED_PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "N/A"
    facts["nvidia-smi"] = _run("nvidia-smi") or "N/A"
    facts["xpu-smi"] = _run("xpu-smi", "discovery") or "N/A"
    return facts


def _siblings(topology: Path, cpu: int) -> str:
    """The hardware threads that share this one's core."""
    try:
        return (topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cpu_quota(cgroup: Path) -> float | None:
    """CPUs that the control group pays for (version 2, else 1); None without a limit."""
    try:
        if (unified := cgroup / "cpu.max").exists():
            quota, period = unified.read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def _run(program: str, *arguments: str) -> str | None:
    """What a program prints; None if it is not there or fails."""
    if (path := shutil.which(program)) is None:
        return None
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, check=True, timeout=_QUERY_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
