"""The image's recipe, as far as it can be checked without building it."""

import re
import tomllib
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tgi_shard.kernels.build import COMPILERS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = (ROOT / "docker" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, rest in found]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return content


def copied_from_the_tree(instructions: list[tuple[str, str]]) -> list[str]:
    copies = [rest.split() for name, rest in instructions if name == "COPY" and "--from" not in rest]
    return [source for words in copies for source in words[:-1] if not source.startswith("--")]


def instructions_of_stage(instructions: list[tuple[str, str]], stage: str) -> list[tuple[str, str]]:
    ends = [place for place, (name, _) in enumerate(instructions) if name == "FROM"] + [len(instructions)]
    for start, end in pairwise(ends):
        if instructions[start][1].endswith(f" AS {stage}"):
            return instructions[start:end]
    raise AssertionError(f"the recipe has no stage {stage}")


def is_sent_to_the_builder(path: str) -> bool:
    """Read .dockerignore as Docker does: the last line that matches a path, or a folder above it, counts."""
    sent = True
    parts = Path(path).parts
    prefixes = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            if any(fnmatch(prefix, pattern) for prefix in prefixes):
                sent = line.startswith("!")
    return sent


def test_everything_it_copies_exists_and_reaches_the_builder(instructions: list[tuple[str, str]]) -> None:
    sources = copied_from_the_tree(instructions)
    assert len(sources) > 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent_to_the_builder(source), source


def test_every_package_of_the_distribution_is_copied(instructions: list[tuple[str, str]]) -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    packages = build["targets"]["wheel"]["packages"]
    assert packages
    for package in packages:
        assert package.split("/")[0] in copied_from_the_tree(instructions)
        assert is_sent_to_the_builder(f"{package}/__init__.py")


@pytest.mark.parametrize(
    "path", [".git/config", ".venv/bin/python", "tests/conftest.py", "benchmarks/.cache/x", "x.log"]
)
def test_what_the_image_does_not_need_stays_out(path: str) -> None:
    assert not is_sent_to_the_builder(path)


def test_it_keeps_to_the_conventions_of_tgis_image(
    instructions: list[tuple[str, str]], project: dict[str, Any]
) -> None:
    variables = " ".join(rest for name, rest in instructions if name == "ENV").split()
    assert {"PORT=80", "HF_HOME=/data"} <= set(variables)
    entrypoint = [rest for name, rest in instructions if name == "ENTRYPOINT"][-1]
    assert entrypoint == '["text-generation-launcher"]'
    assert "text-generation-launcher" in project["scripts"]


def test_the_stage_that_runs_has_a_compiler_and_a_cache_for_what_it_compiles(
    instructions: list[tuple[str, str]],
) -> None:
    runtime = instructions_of_stage(instructions, "runtime")
    commands = "\n".join(rest for name, rest in runtime if name == "RUN")
    (installed,) = re.findall(r"apt-get install -y --no-install-recommends (.*?) &&", commands)
    assert set(installed.split()) & set(COMPILERS)
    (writable,) = re.findall(r"mkdir --mode=1777 (.*)", commands)
    (variables,) = [rest.split() for name, rest in runtime if name == "ENV"]
    assert {f"HF_HOME={writable.split()[0]}", f"XDG_CACHE_HOME={writable.split()[1]}"} <= set(variables)


def test_the_default_base_has_a_python_that_the_project_runs_on(
    instructions: list[tuple[str, str]], project: dict[str, Any]
) -> None:
    assert ("ARG", "BASE=ubuntu:24.04") in instructions  # its python3 is 3.12
    assert project["requires-python"] == ">=3.11"


def test_torch_is_pinned_where_the_recipe_looks_for_it() -> None:
    pins = re.findall(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert len(pins) == 1
