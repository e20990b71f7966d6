"""Says where and with what a benchmark ran: the facts without which its figures mean nothing."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

_RELEVANT_VARIABLES = ("OMP_", "MKL_", "KMP_", "TORCH", "CUDA_", "LD_PRELOAD", "MALLOC_", "VLLM_")


@dataclass(frozen=True, slots=True)
class Machine:
    """Hardware and system; memory in bytes. Nothing here names the machine or its user."""

    cpu: str
    physical_cores: int
    usable_cpus: int
    memory_bytes: int
    gpus: tuple[str, ...]
    system: str
    python: str


@dataclass(frozen=True, slots=True)
class Revision:
    """The source that was measured."""

    commit: str
    changed_files: int


def describe_machine() -> Machine:
    """Look at the machine this runs on."""
    return Machine(
        cpu=_cpu_name(Path("/proc/cpuinfo")),
        physical_cores=psutil.cpu_count(logical=False) or 0,
        usable_cpus=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        gpus=tuple(_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()),
        # Two numbers of the kernel's version: the rest says who built it.
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}",
        python=platform.python_version(),
    )


def _cpu_name(cpuinfo: Path) -> str:
    """Read the model's name, with family and model number: virtual machines often hide all but these."""
    facts: dict[str, str] = {}
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def describe_revision(repository: Path) -> Revision | None:
    """Answer the commit of the source tree and how many files differ from it; None outside of git."""
    commit = _output("git", "-C", str(repository), "rev-parse", "HEAD").strip()
    changed = _output("git", "-C", str(repository), "status", "--porcelain", "--untracked-files=all")
    return Revision(commit, len(changed.splitlines())) if commit else None


def package_versions(names: Iterable[str], path: Sequence[str] = sys.path) -> dict[str, str]:
    """Answer the version of each distribution installed in the folders of `path`; the others are left out."""
    found = ((name, next(iter(metadata.distributions(name=name, path=list(path))), None)) for name in names)
    return {name: distribution.version for name, distribution in found if distribution is not None}


def relevant_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Pick the variables that steer threads, memory and devices; a path in one is cut to the file's name."""
    return {
        name: ":".join(Path(part).name for part in value.split(":"))
        for name, value in sorted(environment.items())
        if name.startswith(_RELEVANT_VARIABLES)
    }


def _output(command: str, *arguments: str) -> str:
    """Run a tool that may be missing, or have nothing to say."""
    path = shutil.which(command)
    if path is None:
        return ""
    answer = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    return answer.stdout if answer.returncode == 0 else ""
