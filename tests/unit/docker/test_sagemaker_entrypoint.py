"""The entry point for SageMaker, with a launcher in its path that only says how it was called."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[3] / "docker" / "sagemaker-entrypoint.sh"
NAMES = ("MODEL_ID", "REVISION", "NUM_SHARD", "QUANTIZE", "TRUST_REMOTE_CODE")


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    path = tmp_path / "text-generation-launcher"
    told = "".join(f'echo "{name}=${{{name}-unset}}"\n' for name in NAMES)
    path.write_text(f'#!/bin/sh\necho "arguments=$*"\n{told}')
    path.chmod(0o755)
    return path


def start(launcher: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{launcher.parent}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        [ENTRYPOINT, *arguments], env=environment, capture_output=True, text=True, timeout=20, check=False
    )


def test_sagemakers_variables_become_the_launchers(launcher: Path) -> None:
    result = start(
        launcher,
        "serve",
        HF_MODEL_ID="org/model",
        HF_MODEL_REVISION="refs/pr/1",
        SM_NUM_GPUS="2",
        HF_MODEL_QUANTIZE="int8",
        HF_MODEL_TRUST_REMOTE_CODE="true",
    )
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "arguments=--port 8080",
        "MODEL_ID=org/model",
        "REVISION=refs/pr/1",
        "NUM_SHARD=2",
        "QUANTIZE=int8",
        "TRUST_REMOTE_CODE=true",
    ]


def test_variables_that_are_unset_or_empty_set_nothing(launcher: Path) -> None:
    result = start(launcher, HF_MODEL_ID="/opt/ml/model", SM_NUM_GPUS="", HF_MODEL_REVISION="")
    assert result.returncode == 0
    assert result.stdout.splitlines()[1:] == [
        "MODEL_ID=/opt/ml/model",
        *(f"{name}=unset" for name in NAMES[1:]),
    ]


@pytest.mark.parametrize("variables", [{}, {"HF_MODEL_ID": ""}])
def test_without_a_model_it_says_what_is_missing(launcher: Path, variables: dict[str, str]) -> None:
    result = start(launcher, **variables)
    assert result.returncode == 1
    assert "HF_MODEL_ID is not set" in result.stderr
    assert result.stdout == ""


def test_the_launcher_takes_its_place_and_so_gets_its_signals(launcher: Path) -> None:
    launcher.write_text('#!/bin/sh\ntrap "echo stopped; exit 7" TERM\necho "$$"\nread -r line\n')
    environment = {"PATH": f"{launcher.parent}:{os.environ['PATH']}", "HF_MODEL_ID": "org/model"}
    with subprocess.Popen(
        [ENTRYPOINT], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 7
