"""What the device is good at, and how much memory it has, also inside containers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import torch

from tgi_shard import platform
from tgi_shard.platform import AcceleratorPlatform, CpuPlatform, DeviceError

GIB = 2**30


@pytest.mark.parametrize(
    ("declared", "native_bfloat16", "expected"),
    [
        (torch.float32, True, torch.float32),
        (torch.bfloat16, True, torch.bfloat16),
        (torch.bfloat16, False, torch.bfloat16),
        (torch.float16, True, torch.bfloat16),
        (torch.float16, False, torch.float32),
        (None, True, torch.float32),
    ],
)
def test_the_default_dtype_on_a_cpu(
    declared: torch.dtype | None, native_bfloat16: bool, expected: torch.dtype
) -> None:
    assert CpuPlatform(native_bfloat16=native_bfloat16).default_dtype(declared) is expected


def test_a_working_device_passes_its_check() -> None:
    CpuPlatform().check()


def test_a_device_that_computes_wrongly_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda self, other: self + other)
    with pytest.raises(DeviceError, match="cpu computed a wrong product"):
        CpuPlatform().check()


def test_a_device_that_does_not_answer_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: CpuPlatform) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(CpuPlatform, "synchronize", lost)
    with pytest.raises(DeviceError, match="cpu does not work: device lost"):
        CpuPlatform().check()


def test_a_cpu_has_no_more_memory_than_the_machine() -> None:
    cpu = CpuPlatform()
    assert 0 < cpu.free_memory() <= cpu.total_memory() <= psutil.virtual_memory().total


def write_group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_limits_of_control_groups_are_found_at_every_level(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("0::/pod/container\n")
    write_group(
        root / "pod", memory__max=8 * GIB, memory__current=3 * GIB, memory__stat=f"inactive_file {GIB}"
    )
    write_group(
        root / "pod/container", memory__max="max", memory__current=GIB, memory__stat="inactive_file 0"
    )
    assert list(platform._cgroups(root, own)) == [(8 * GIB, 2 * GIB)]


def test_limits_of_version_1_control_groups_are_found(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("5:cpu,cpuacct:/box\n4:memory:/outside/box\n")
    files = {
        "memory__limit_in_bytes": 4 * GIB,
        "memory__usage_in_bytes": GIB,
        "memory__stat": "total_inactive_file 0",
    }
    write_group(root / "memory", **files)
    assert list(platform._cgroups(root, own)) == [(4 * GIB, GIB)]


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert list(platform._cgroups(tmp_path, tmp_path / "missing")) == []


def test_a_tight_control_group_bounds_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "_cgroups", lambda: iter([(GIB, GIB // 4), (GIB // 2, GIB)]))
    assert CpuPlatform().free_memory() == 0
    assert CpuPlatform().total_memory() == GIB // 2


def test_memory_that_torch_keeps_on_a_device_is_not_free() -> None:
    cuda = AcceleratorPlatform.__new__(AcceleratorPlatform)
    cuda.device = torch.device("cuda", 0)
    cuda._torch = cast("Any", SimpleNamespace(mem_get_info=lambda device: (6 * GIB, 10 * GIB)))
    assert cuda.free_memory() == 6 * GIB
    assert cuda.kv_cache_budget(None, ranks=1) == pytest.approx(5 * GIB)
