"""Requests made up from the server's own document: no answer may break it, and none be a fault."""

import re
import subprocess
import sys

import pytest

from support.server import Server

CASES = 1000
EXAMPLES = 150
"""For each operation that has a body or parameters; the others have one case."""

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_made_up_requests_get_answers_as_documented(server: Server) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/api-doc/openapi.json"),
        *("--url", server.url, "--checks", ",".join(CHECKS), "--phases", "fuzzing", "--no-color"),
        *("--max-examples", str(EXAMPLES), "--seed", "1", "--generation-database", "none"),
        *("--exclude-path-regex", "^/(docs|chat)/", "--request-timeout", "60"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert "failed" not in done.stdout
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated.group(1)) >= CASES
    server.wait_until_idle()
