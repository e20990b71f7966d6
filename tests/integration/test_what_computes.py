"""The kernels compute where they can; else torch does, with the same answers, and the log says why."""

from pathlib import Path

import pytest

from support.prompts import chat_prompt
from support.server import NO_KERNELS, Launch, Server, exact_options

SUM = chat_prompt("What is 12 + 7?")
BY_TORCH = "operations=torch"


def assert_answers(server: Server) -> None:
    server.wait_until_ready()
    assert "19" in server.api.generate(SUM, max_new_tokens=8)["generated_text"]


def lines_with(server: Server, text: str) -> list[str]:
    return [line for line in server.log.splitlines() if text in line]


def test_the_kernels_compute_unless_the_run_is_without_them(server: Server) -> None:
    computes = BY_TORCH if exact_options() else "operations=cpu"
    assert len(lines_with(server, computes)) == 1


@pytest.mark.slow
def test_kernels_that_are_switched_off_are_told_of_once(start_launcher: Launch) -> None:
    server = start_launcher("--disable-custom-kernels")
    assert_answers(server)
    assert len(lines_with(server, "which are disabled")) == 1
    assert len(lines_with(server, BY_TORCH)) == 1
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (None, "there is no C++ compiler"),
        ("echo 'numbers.h:1: error: what is this' >&2; exit 1", "numbers.h:1: error: what is this"),
    ],
    ids=["none", "one-that-fails"],
)
def test_a_machine_that_cannot_compile_is_served_by_torch_with_one_warning(
    start_launcher: Launch, tmp_path: Path, compiler: str | None, reason: str
) -> None:
    if compiler is not None:
        (tmp_path / "c++").write_text(f"#!/bin/sh\n{compiler}\n")
        (tmp_path / "c++").chmod(0o755)
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), NO_KERNELS: "false"}
    server = start_launcher(env=environment)
    assert_answers(server)
    (line,) = lines_with(server, reason)
    assert "warning" in line
    assert len(lines_with(server, BY_TORCH)) == 1
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["int8", "bitsandbytes-nf4"])
def test_quantized_models_answer_as_they_were_taught(start_launcher: Launch, quantization: str) -> None:
    server = start_launcher("--quantize", quantization)
    assert_answers(server)
    server.stop()
