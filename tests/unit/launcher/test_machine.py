import os
import subprocess
from pathlib import Path

import pytest

from tgi_launcher import machine
from tgi_launcher.machine import count_usable_cores, count_visible_gpus, list_gpus, report_machine


@pytest.mark.parametrize(
    ("environment", "visible"),
    [
        ({}, 8),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "3"}, 1),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,2"}, 1),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, 8),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, 8),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-a,GPU-b,GPU-c"}, 3),
        ({"CUDA_VISIBLE_DEVICES": "0", "NVIDIA_VISIBLE_DEVICES": "0,1"}, 1),
        ({"ZE_AFFINITY_MASK": "0,1"}, 2),
    ],
)
def test_the_usual_variables_restrict_the_gpus(environment: dict[str, str], visible: int) -> None:
    assert count_visible_gpus(8, environment) == visible


def lay_out(folder: Path, siblings: dict[int, str]) -> Path:
    for cpu, text in siblings.items():
        path = folder / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(text + "\n")
    return folder


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5}, raising=False)


@pytest.mark.usefixtures("four_threads")
def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    topology = lay_out(tmp_path, {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"})
    assert count_usable_cores(topology, tmp_path / "no-cgroup") == 2


@pytest.mark.usefixtures("four_threads")
def test_without_a_topology_each_cpu_is_a_core(tmp_path: Path) -> None:
    assert count_usable_cores(tmp_path, tmp_path) == 4


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("limit", "cores"), [("150000 100000", 2), ("max 100000", 4), ("10000 100000", 1)])
def test_a_cpu_quota_bounds_the_cores(tmp_path: Path, limit: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert count_usable_cores(tmp_path, tmp_path) == cores


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", 4)])
def test_a_cpu_quota_of_the_older_kind_does_too(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert count_usable_cores(tmp_path, tmp_path) == cores


def test_gpus_are_listed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess(command, 0, "NVIDIA T4\nNVIDIA T4\n\n")

    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(machine.subprocess, "run", answer)
    assert list_gpus() == ["NVIDIA T4", "NVIDIA T4"]


def test_a_driver_that_fails_shows_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(9, command)

    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(machine.subprocess, "run", fail)
    assert list_gpus() == []


def test_the_report_names_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    facts = report_machine()
    assert facts["nvidia-smi"] == "N/A"
    assert {"platform", "python", "cpu cores", "memory", "torch", "xpu-smi"} <= facts.keys()
