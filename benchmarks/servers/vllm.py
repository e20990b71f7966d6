"""The peer `vllm`: its build for CPUs, from an environment of its own, with the best settings found."""

import ctypes.util
import os
from collections.abc import Iterable
from pathlib import Path

from benchmarks.machine import package_versions
from benchmarks.servers.base import Launch, ServerFailedError
from benchmarks.servers.http import CommandServer

CACHE = Path(__file__).parents[1] / ".cache"
VENV = CACHE / "vllm-venv"
"""Where `make bench-vllm` installs it."""

_CPUS = Path("/sys/devices/system/cpu")


def make_vllm(venv: Path = VENV) -> CommandServer:
    """Describe vLLM as installed in `venv`, tuned for the CPUs that this process may use.

    Its prefix cache is on, as by default.

    Raises:
        ServerFailedError: it is not installed.
    """
    command = venv / "bin" / "vllm"
    if not command.exists():
        raise ServerFailedError("vllm is not installed for benchmarks: `make bench-vllm` does that")
    cpus = one_cpu_per_core(os.sched_getaffinity(0), _CPUS)
    return CommandServer(
        name="vllm",
        versions=package_versions(
            ("vllm", "torch", "transformers", "intel-openmp"),
            [str(path) for path in venv.glob("lib/python3*/site-packages")],
        ),
        command=lambda launch, port: _command(command, launch, port),
        # Whatever fits into the KV cache, also of models made for more.
        options=("--max-model-len", "auto"),
        environment={
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus)),
            "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
            "VLLM_CACHE_ROOT": str(CACHE / "vllm"),
            "VLLM_NO_USAGE_STATS": "1",
            "LD_PRELOAD": ":".join(_preloaded(venv)),
            "HF_HUB_OFFLINE": "1",
        },
    )


def _command(command: Path, launch: Launch, port: int) -> list[str]:
    return [
        *(str(command), "serve", str(launch.checkpoint)),
        *("--served-model-name", "tgi"),
        *("--dtype", launch.dtype),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
    ]


def one_cpu_per_core(usable: Iterable[int], cpus: Path) -> list[int]:
    """Leave out CPUs that share a core with one before them: vLLM's advice is a thread for each core.

    `cpus` is the system's folder of CPUs; where it does not tell, every CPU counts as a core.
    """
    cores: dict[str, int] = {}
    for cpu in sorted(usable):
        siblings = cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        cores.setdefault(siblings.read_text() if siblings.exists() else str(cpu), cpu)
    return list(cores.values())


def _preloaded(venv: Path) -> list[str]:
    """Find the allocator and the threads that vLLM's manual recommends on CPUs, as far as installed."""
    allocator = ctypes.util.find_library("tcmalloc_minimal")
    threads = venv / "lib" / "libiomp5.so"
    return [*([allocator] if allocator else []), *([str(threads)] if threads.exists() else [])]
