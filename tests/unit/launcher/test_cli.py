import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tgi_common.version import read_version
from tgi_launcher.settings import Settings


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    options = {name.upper() for name in Settings.__slots__}
    kept = {name: value for name, value in os.environ.items() if name not in options}
    return subprocess.run(
        [sys.executable, "-m", "tgi_launcher.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"} | environment,
    )


def test_the_version_is_the_distributions() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"text-generation-launcher {read_version()}\n")


def test_help_names_the_options_in_groups() -> None:
    done = run("--help")
    assert done.returncode == 0
    for text in ("--max-batch-prefill-tokens", "MAX_BATCH_PREFILL_TOKENS", "Limits of a request"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "told"),
    [
        (["--port", "none"], {}, 2, "--port"),
        ([], {"SHARDED": "perhaps"}, 2, "'perhaps' is neither true nor false"),
        ([], {"LOG_LEVEL": "loud"}, 2, "choose one of trace, debug"),
        (["--max-input-tokens", "9", "--max-total-tokens", "9"], {}, 1, "must be below"),
        (["--model-id", "/no/such/folder"], {}, 1, "/no/such/folder is not a folder"),
        (["--model-id", "x" * 5000], {}, 1, "File name too long"),
        (["--max-total-tokens", "1"], {}, 2, "greater than or equal to 2"),
        (["--max-total-tokens", "5000000000"], {}, 2, "less than or equal to"),
        (["--max-input-tokens", "5000000000"], {}, 2, "less than or equal to"),
        (["--max-batch-prefill-tokens", "5000000000"], {}, 2, "less than or equal to"),
        (["--hostname", "x" * 300], {}, 1, "is not an address"),
        (["--master-addr", "no.such.host.invalid", "--num-shard", "2"], {}, 1, "no.such.host.invalid is not"),
        ([], {"API_KEY": "secret-key,"}, 1, "API key 2 of 2 is empty"),
        (["--api-key", "secret-key two"], {}, 1, "API key 1 of 1 must be printable ASCII"),
    ],
)
def test_what_cannot_start_says_why_in_its_only_line(
    arguments: list[str], environment: dict[str, str], code: int, told: str, tmp_path: Path
) -> None:
    done = run(*arguments, "--shard-uds-path", str(tmp_path / "s"), **environment)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert told in output
    assert output.count("\n") == 1
    assert "secret-key" not in output


def test_a_log_filter_as_tgi_takes_it_is_understood(tmp_path: Path) -> None:
    done = run("--model-id", str(tmp_path), LOG_LEVEL="info,hyper=warn")
    assert "has no config.json" in done.stdout


def test_an_early_ctrl_c_ends_it_even_inside_a_library_that_swallows_it() -> None:
    program = """
import os, signal
import tgi_launcher.cli as cli

def swallow(app):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        pass

cli.run_command = swallow
cli.main()
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
