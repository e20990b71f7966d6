"""The command line, and the facts about the machine that it writes down."""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.bench import record_benchmark
from benchmarks.cli import app, main
from benchmarks.machine import describe_machine, describe_revision, package_versions, relevant_variables
from benchmarks.record import Record
from benchmarks.rounds import Plan, ServerRound
from benchmarks.servers import PEERS
from benchmarks.servers.base import Server, ServerFailedError
from tgi_demo import MODEL_PATH


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--case", "short-c7"], "--case short-c7: there is only short-c1, "),
        (["--peer", "tgi"], "--peer tgi: there is only transformers, vllm"),
        (["--dtype", "int8"], "--dtype int8: there is only bfloat16, float16, float32"),
        (["--model", "/nowhere"], "--model /nowhere: neither 135M, 1B, tgi-demo, nor a folder"),
        (["--url", "http://10.0.0.1:80"], "10.0.0.1 is not this machine"),
        (["--url", "ftp"], "ftp is no http address"),
        (["--rounds", "0"], "Invalid value for '--rounds'"),
        (["make-checkpoint", "7B", "folder"], "shape 7B: there is only 135M, 1B"),
    ],
)
def test_a_wrong_option_is_told_in_a_line(arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert expected in result.output


def test_what_is_measured_follows_the_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plans = []

    def fake(plan: Plan, model: str, name: str) -> Record:
        plans.append((plan, model, name))
        raise SystemExit(0)

    monkeypatch.setattr("benchmarks.cli.record_benchmark", fake)
    options = (
        "--model tgi-demo --case long-c1 --case short-c8 --peer transformers --rounds 5 --seed 7 --name a/b"
    )
    result = CliRunner().invoke(
        app, [*options.split(), "--url", "http://127.0.0.1:9", "--launcher-options", "--num-shard 2"]
    )
    assert result.exit_code == 0, result.output
    ((plan, model, name),) = plans
    assert [case.name for case in plan.cases] == ["long-c1", "short-c8"]
    assert [server.name for server in plan.servers] == ["tgi", "transformers", "running"]
    assert plan.servers[0].options == ("--num-shard", "2")
    assert (plan.rounds, plan.seed, plan.dtype, plan.checkpoint) == (5, 7, "bfloat16", MODEL_PATH.resolve())
    assert (model, name) == ("tgi-demo", "a-b")


def test_a_peer_that_is_not_installed_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> Server:
        raise ServerFailedError("vllm is not installed")

    monkeypatch.setitem(PEERS, "vllm", missing)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--model", "tgi-demo", "--peer", "vllm"])
    with pytest.raises(SystemExit, match="error: vllm is not installed"):
        main()


async def _interrupt(_: Plan) -> None:
    raise KeyboardInterrupt


async def _nothing(_: Plan) -> list[ServerRound]:
    return []


def test_an_interrupted_run_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.bench.run_rounds", _interrupt)
    with pytest.raises(SystemExit, match="interrupted"):
        record_benchmark(Plan((), (), 1, Path(), "float32", 0), "m", "n")


@pytest.mark.parametrize(("load", "warned"), [(0.4, False), (3.0, True)])
def test_a_busy_machine_is_told(
    load: float, warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.bench.run_rounds", _nothing)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    record = record_benchmark(Plan((), (), 1, Path(), "float32", 0), "m", "n")
    assert record.rounds == ()
    assert ("warning: the load average is 3.0 on 2 CPUs" in capsys.readouterr().err) is warned


def test_the_machine_is_described_without_names_of_hosts_users_or_paths() -> None:
    machine = describe_machine()
    assert machine.usable_cpus >= 1
    assert machine.memory_bytes > 1 << 28
    assert machine.cpu
    variables = {"OMP_NUM_THREADS": "2", "LD_PRELOAD": "/opt/lib/libx.so:/y/libz.so", "HF_TOKEN": "secret"}
    assert relevant_variables(variables) == {"LD_PRELOAD": "libx.so:libz.so", "OMP_NUM_THREADS": "2"}


def test_versions_of_what_is_installed() -> None:
    versions = package_versions(["pytest", "not-installed-anywhere"])
    assert list(versions) == ["pytest"]
    assert package_versions(["pytest"], []) == {}


def test_the_revision_counts_changed_files(tmp_path: Path) -> None:
    assert describe_revision(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "first"]):
        subprocess.run([*git, *command], check=True)
    revision = describe_revision(tmp_path)
    assert revision is not None
    assert (len(revision.commit), revision.changed_files) == (40, 0)
    (tmp_path / "new").write_text(json.dumps({}))
    changed = describe_revision(tmp_path)
    assert changed is not None
    assert changed.changed_files == 1
