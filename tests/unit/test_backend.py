"""Which backend computes, and what is said when it is not the kernels."""

from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tgi_shard.backend import Backend, select_backend

CPU = torch.device("cpu")


def names(backend: Backend) -> tuple[str, str]:
    return backend.operations.name, backend.attention.name


def select(
    cache: Path | None, device: torch.device = CPU, dtype: torch.dtype = torch.bfloat16, head_dim: int = 64
) -> tuple[tuple[str, str], list[EventDict]]:
    """The names of what was selected, and what was logged meanwhile."""
    with capture_logs() as logs:
        backend = select_backend(device, dtype, head_dim, cache)
    return names(backend), logs


@pytest.mark.usefixtures("kernels")  # compiled before
@pytest.mark.parametrize("head_dim", [32, 64, 128, 256])
def test_bfloat16_on_a_cpu_is_computed_by_the_kernels_in_silence(kernel_cache: Path, head_dim: int) -> None:
    assert select(kernel_cache, head_dim=head_dim) == (("cpu", "cpu"), [])


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("head_dim", [8, 48, 80, 512])
def test_heads_that_the_kernels_cannot_attend_are_left_to_torch(kernel_cache: Path, head_dim: int) -> None:
    chosen, logs = select(kernel_cache, head_dim=head_dim)
    assert chosen == ("cpu", "torch")
    assert [(entry["log_level"], entry["size"]) for entry in logs] == [("info", head_dim)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_types_are_computed_by_torch_and_nothing_is_compiled(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    chosen, logs = select(tmp_path / "cache", dtype=dtype)
    assert chosen == ("torch", "torch")
    assert [entry["log_level"] for entry in logs] == ["info"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", ["cuda", "mps", "meta"])
def test_other_devices_are_computed_by_torch_and_nothing_is_compiled(tmp_path: Path, kind: str) -> None:
    assert select(tmp_path / "cache", torch.device(kind)) == (("torch", "torch"), [])
    assert not (tmp_path / "cache").exists()


def test_kernels_that_are_switched_off_are_not_compiled() -> None:
    chosen, logs = select(None)
    assert chosen == ("torch", "torch")
    assert [entry["log_level"] for entry in logs] == ["info"]


def test_a_machine_without_a_compiler_is_warned_about_once_and_served_by_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    chosen, logs = select(tmp_path / "cache")
    assert chosen == ("torch", "torch")
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert "no C++ compiler" in logs[0]["event"]
    assert "\n" not in logs[0]["event"]
