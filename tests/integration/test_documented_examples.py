"""The examples in the documentation work as printed."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.server import Server

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/http-api.md")
SHELL_BLOCK = re.compile(r"^```(?:sh|bash|shell)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """Every shell block that starts with curl: its page and text."""
    return [
        (page, block)
        for page in PAGES
        if (ROOT / page).exists()
        for block in SHELL_BLOCK.findall((ROOT / page).read_text())
        if block.lstrip().startswith("curl")
    ]


def test_both_pages_show_how_to_ask() -> None:
    assert {page for page, _ in examples()} == set(PAGES)


@pytest.mark.parametrize(
    ("page", "block"), examples(), ids=[f"{page}-{number}" for number, (page, _) in enumerate(examples())]
)
def test_an_example_runs_as_printed(server: Server, tmp_path: Path, page: str, block: str) -> None:
    assert shutil.which("curl"), "the documentation's examples need curl"
    (tmp_path / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\nmax-time = 60\n")
    script = re.sub(r"(localhost|127\.0\.0\.1|0\.0\.0\.0):\d+", f"127.0.0.1:{server.port}", block)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={"CURL_HOME": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"},
    )
    assert done.returncode == 0, f"{page}:\n{block}\n{done.stdout}{done.stderr}"
    check_output(done.stdout)


def check_output(output: str) -> None:
    """JSON answers parse; so does every event of a stream."""
    if output.startswith(("{", "[")):
        json.loads(output)
    for line in output.splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            json.loads(line.removeprefix("data: "))
