"""What a process imports is part of its design: the router knows no torch, the shard no web server."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("imported", "forbidden"),
    [
        ("tgi_router.app, tgi_router.cli", "torch"),
        ("tgi_router.app, tgi_router.cli", "tgi_shard"),
        ("tgi_shard.cli, tgi_shard.service", "aiohttp"),
        ("tgi_shard.cli, tgi_shard.service", "tgi_router"),
        ("tgi_launcher.cli", "torch"),
        ("tgi_launcher.cli", "aiohttp"),
    ],
)
def test_importing_a_process_does_not_import(imported: str, forbidden: str) -> None:
    code = f"import sys, {imported}; sys.exit({forbidden!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    assert done.returncode == 0, f"importing {imported} imports {forbidden}"
