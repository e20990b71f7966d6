"""What differs between cuda, rocm, xpu, mps and cpu, in one place; everything else asks a `Platform`."""

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import torch

NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""CPU flags (x86, x86, ARM) of arithmetic on bfloat16 itself."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
KEPT_BUFFER_BYTES = 32 * 2**20  # the most that glibc takes
KEPT_HEAP_BYTES = 256 * 2**20
KV_CACHE_CAP = 0.9
"""Part of a device's memory that may be in use with the KV cache; the rest is for what warmup did not see."""

CPU_KV_SHARE = 0.25
"""Part of a machine's available memory that KV caches take unless told otherwise."""


class DeviceError(Exception):
    """The device is missing, out of reach, or computes wrongly. The message says which and what to do."""


class Platform(ABC):
    """A device with what the rest of the shard needs to know about it.

    Attributes:
        name: "cuda" (also for ROCm), "xpu", "mps" or "cpu".
        device: where tensors go.
        distributed_backend: the torch.distributed backend for this kind of device.
    """

    name: str
    distributed_backend: str

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @abstractmethod
    def default_dtype(self, checkpoint_dtype: torch.dtype | None) -> torch.dtype:
        """The type to compute in when the user names none: the checkpoint's, if the device is good at it."""

    def tune_allocator(self) -> None:  # noqa: B027 - devices whose memory torch manages need nothing
        """Set up the memory allocator of this process for the same large buffers at every step."""

    @abstractmethod
    def free_memory(self) -> int:
        """Bytes that may still be allocated. On a CPU all ranks share them: divide by the world size."""

    @abstractmethod
    def total_memory(self) -> int:
        """Bytes the device has."""

    def kv_cache_budget(self, fraction: float | None, ranks: int) -> int:
        """Bytes that one rank's KV cache may take now: what is free, less the part to leave alone.

        As TGI (flash_causal_lm.py, `warmup`): `fraction` (1.0 if None) caps the memory in use on the whole
        device, and a tenth of that stays free for what warmup did not see. `ranks` have a device each.
        """
        kept_free = 1.0 - KV_CACHE_CAP * (1.0 if fraction is None else fraction)
        return max(0, self.free_memory() - int(kept_free * self.total_memory()))

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all work that was given to the device."""

    @abstractmethod
    def release_cached_memory(self) -> None:
        """Give back memory that torch keeps for later allocations."""

    def check(self) -> None:
        """Allocate on the device, compute a small product there, and compare it.

        Raises:
            DeviceError: the device does not answer, or answers wrongly.
        """
        try:
            numbers = torch.arange(16, dtype=torch.float32, device=self.device).view(4, 4)
            product = numbers @ numbers.t()
            self.synchronize()
            result = product.cpu()
        except (RuntimeError, AssertionError) as error:
            raise DeviceError(f"{self.device} does not work: {error}") from error
        # Whole numbers below 2**11 are exact whatever precision the device multiplies in.
        expected = [[sum((4 * i + k) * (4 * j + k) for k in range(4)) for j in range(4)] for i in range(4)]
        if result.tolist() != expected:
            raise DeviceError(f"{self.device} computed a wrong product: {result.tolist()}")


class CpuPlatform(Platform):
    """The host's processors."""

    name = "cpu"
    distributed_backend = "gloo"

    def __init__(self, *, native_bfloat16: bool | None = None) -> None:
        super().__init__(torch.device("cpu"))
        self._native_bfloat16 = _cpu_has_bfloat16() if native_bfloat16 is None else native_bfloat16

    def default_dtype(self, checkpoint_dtype: torch.dtype | None) -> torch.dtype:
        """The checkpoint's; float32 if it names none.

        float16 is slow on processors: bfloat16 where they have it, else float32.
        """
        if checkpoint_dtype is None:
            return torch.float32
        if checkpoint_dtype is torch.float16:
            return torch.bfloat16 if self._native_bfloat16 else torch.float32
        return checkpoint_dtype

    def free_memory(self) -> int:
        """The machine's available memory, or what this process's control groups leave, if that is less."""
        return min([psutil.virtual_memory().available, *(max(0, limit - used) for limit, used in _cgroups())])

    def total_memory(self) -> int:
        """The machine's memory, or the tightest control group limit."""
        return min([psutil.virtual_memory().total, *(limit for limit, _ in _cgroups())])

    def tune_allocator(self) -> None:
        """Have glibc keep freed buffers; by default each step maps its logits anew, page by page."""
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # other C libraries have no such call
            mallopt(_M_MMAP_THRESHOLD, KEPT_BUFFER_BYTES)
            mallopt(_M_TRIM_THRESHOLD, KEPT_HEAP_BYTES)

    def kv_cache_budget(self, fraction: float | None, ranks: int) -> int:
        """Bytes that one rank's KV cache may take: a part of what is available, divided by the ranks.

        A quarter if no fraction is given: a machine's memory, unlike a device's, is for others too.
        """
        return int(self.free_memory() * (CPU_KV_SHARE if fraction is None else fraction)) // ranks

    def synchronize(self) -> None:
        """Nothing to wait for: a CPU's calls return when they are done."""

    def release_cached_memory(self) -> None:
        """Nothing to give back: torch keeps no CPU memory."""


class AcceleratorPlatform(Platform):
    """A device that torch drives through a module of its own: torch.cuda (also for ROCm) or torch.xpu."""

    def __init__(self, name: str, distributed_backend: str, index: int) -> None:
        super().__init__(torch.device(name, index))
        self.name = name
        self.distributed_backend = distributed_backend
        self._torch: ModuleType = torch.get_device_module(self.device)
        count = self._torch.device_count()
        if index >= count:
            raise DeviceError(
                f"rank {index} needs {self.device}, but {count} such devices are visible; start fewer shards"
            )
        self._torch.set_device(self.device)

    def default_dtype(self, checkpoint_dtype: torch.dtype | None) -> torch.dtype:
        """The checkpoint's; float16 if it names none (as TGI), or bfloat16 that the device would emulate."""
        if checkpoint_dtype is None:
            return torch.float16
        if checkpoint_dtype is torch.bfloat16 and not self._torch.is_bf16_supported(
            including_emulation=False
        ):
            return torch.float16
        return checkpoint_dtype

    def free_memory(self) -> int:
        """Bytes free on the device; those that torch keeps for later allocations are not."""
        free, _ = self._torch.mem_get_info(self.device)
        return int(free)

    def total_memory(self) -> int:
        """Bytes the device has."""
        _, total = self._torch.mem_get_info(self.device)
        return int(total)

    def synchronize(self) -> None:
        """Wait for all streams of the device."""
        self._torch.synchronize(self.device)

    def release_cached_memory(self) -> None:
        """Return torch's reserve to the device."""
        self._torch.empty_cache()


class MpsPlatform(Platform):
    """The GPU of an Apple computer; it shares the machine's memory."""

    name = "mps"
    distributed_backend = "gloo"

    def __init__(self) -> None:
        super().__init__(torch.device("mps"))

    def default_dtype(self, checkpoint_dtype: torch.dtype | None) -> torch.dtype:
        """The checkpoint's; float16 if it names none."""
        return checkpoint_dtype or torch.float16

    def free_memory(self) -> int:
        """What Metal recommends to use, less what it has handed out; never more than is available."""
        left = self.total_memory() - torch.mps.driver_allocated_memory()
        return max(0, min(left, psutil.virtual_memory().available))

    def total_memory(self) -> int:
        """What Metal recommends to use at most."""
        return torch.mps.recommended_max_memory()

    def synchronize(self) -> None:
        """Wait for the device's command queue."""
        torch.mps.synchronize()

    def release_cached_memory(self) -> None:
        """Return torch's reserve to the system."""
        torch.mps.empty_cache()


def select_platform(rank: int) -> Platform:
    """The best device that torch can see, one per rank: cuda or rocm, xpu, mps, else the CPU.

    Raises:
        DeviceError: there are fewer devices than ranks.
    """
    if torch.cuda.is_available():
        return AcceleratorPlatform("cuda", "nccl", rank)
    if torch.xpu.is_available():
        return AcceleratorPlatform("xpu", "xccl", rank)
    if torch.backends.mps.is_available():
        if rank > 0:
            raise DeviceError(f"rank {rank} has no device: this machine has one mps device; start one shard")
        return MpsPlatform()
    return CpuPlatform()


def _cpu_has_bfloat16() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not NATIVE_BFLOAT16.isdisjoint(flags.split())


def _cgroups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[tuple[int, int]]:
    """Memory (limit, usage) in bytes of each limited control group that this process is in, version 2 or 1.

    Page cache that the kernel would drop under pressure does not count as used.
    """
    try:
        entries = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:  # not Linux
        return
    for _, controllers, path in entries:
        if controllers == "":
            yield from _limits(root, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _limits(root / "memory", path, *files)


def _limits(
    root: Path, path: str, limit_file: str, usage_file: str, droppable: str
) -> Iterator[tuple[int, int]]:
    """Limits of a group and of all groups above it: each binds."""
    # Inside a container the path may name a group that only exists outside; its parents then still count.
    group = root / path.lstrip("/")
    for folder in [group, *group.parents]:
        if not folder.is_relative_to(root):
            break
        try:
            limit = int((folder / limit_file).read_text())
            used = int((folder / usage_file).read_text())
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such group, or its limit is the word "max"
            continue
        yield limit, used - int(statistics.get(droppable, 0))
