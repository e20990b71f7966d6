import sys
from typing import Annotated

import pytest
import typer

from tgi_common.options import option, parse_boolean, run_command, variable_name

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def example(
    port: Annotated[int, option("--port", "-p", help="A port.", max=65535)] = 3000,
    json_output: Annotated[bool, option("--json-output", help="A flag.")] = False,
    sharded: Annotated[str | None, option("--sharded", help="A switch.")] = None,
) -> int:
    """An example."""
    switch = None if sharded is None else parse_boolean("--sharded", sharded)
    print(f"port={port} json={json_output} sharded={switch}")
    return 0


class Run:
    """Runs the example and keeps its exit code."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, *arguments: str, **environment: str) -> int | str | None:
        for name in ("PORT", "JSON_OUTPUT", "SHARDED"):
            self.monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            self.monkeypatch.setenv(name, value)
        self.monkeypatch.setattr(sys, "argv", ["example", *arguments])
        with pytest.raises(SystemExit) as raised:
            run_command(app)
        return raised.value.code


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


Capture = pytest.CaptureFixture[str]


def test_the_variable_has_the_name_of_the_option() -> None:
    assert variable_name("--max-total-tokens") == "MAX_TOTAL_TOKENS"


def test_the_command_line_beats_the_environment(run: Run, capsys: Capture) -> None:
    assert run("-p", "1", PORT="2") == 0
    assert capsys.readouterr().out == "port=1 json=False sharded=None\n"
    assert run(PORT="2") == 0
    assert capsys.readouterr().out == "port=2 json=False sharded=None\n"


def test_an_empty_variable_counts_as_unset(run: Run, capsys: Capture) -> None:
    assert run(PORT="", JSON_OUTPUT="", SHARDED="") == 0
    assert capsys.readouterr().out == "port=3000 json=False sharded=None\n"


@pytest.mark.parametrize("word", ["true", "1", "yes", "True"])
def test_booleans_in_the_environment_are_read_as_people_write_them(
    run: Run, capsys: Capture, word: str
) -> None:
    assert run(JSON_OUTPUT=word, SHARDED=word) == 0
    assert capsys.readouterr().out == "port=3000 json=True sharded=True\n"


@pytest.mark.parametrize("word", ["false", "0", "no"])
def test_booleans_can_be_false(run: Run, capsys: Capture, word: str) -> None:
    assert run(JSON_OUTPUT=word, SHARDED=word) == 0
    assert capsys.readouterr().out == "port=3000 json=False sharded=False\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--port", "abc"], {}, ["--port", "integer", "'abc'"]),
        (["-p", "7", "--port", "8", "--port=x9"], {}, ["--port", "integer", "'x9'"]),
        (["--port=99999"], {}, ["--port", "65535", "'99999'"]),
        ([], {"PORT": "abc"}, ["--port", "PORT", "integer", "'abc'"]),
        ([], {"JSON_OUTPUT": "maybe"}, ["--json-output", "JSON_OUTPUT", "boolean", "'maybe'"]),
        (["--sharded", "maybe"], {}, ["--sharded", "true", "false", "'maybe'"]),
        (["--json-outptu"], {}, ["No such option", "--json-outptu", "--json-output"]),
        (["--quantize", "awq"], {}, ["No such option", "--quantize"]),
        (["extra"], {}, ["unexpected", "extra"]),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_exit_code_2(
    run: Run, capsys: Capture, arguments: list[str], environment: dict[str, str], told: list[str]
) -> None:
    assert run(*arguments, **environment) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("error: ")
    for word in told:
        assert word in output.err


def test_help_is_no_error(run: Run, capsys: Capture) -> None:
    assert run("--help") == 0
    assert "--json-output" in capsys.readouterr().out
