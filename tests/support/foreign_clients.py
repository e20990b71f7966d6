"""Clients whose packages need a virtual environment of their own: a script talks to a server through them."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def interpreter(variable: str, folder: str) -> Path:
    """The Python of an environment that `make test` makes; skips the test without it, or fails it in CI.

    Args:
        variable: the environment variable that names another folder, as in the Makefile.
        folder: where it is otherwise.
    """
    found = ROOT / os.environ.get(variable, folder) / "bin" / "python"
    if not found.exists():
        reason = f"{found} is missing; `make test` creates it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def run_script(python: Path, script: Path, url: str, seconds: float, **environment: str) -> dict[str, Any]:
    """What a script prints in its last line, as JSON, after it has talked to the server at `url`."""
    done = subprocess.run(
        [python, script, url],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results
