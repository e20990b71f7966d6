"""The life of the servers: started, awaited, stopped, whatever happens."""

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.cases import Work
from benchmarks.load import Target
from benchmarks.servers.base import Launch, ServerFailedError
from benchmarks.servers.http import CommandServer, RunningServer, free_port
from benchmarks.servers.process import server_process
from benchmarks.servers.tgi import make_tgi, read_kv_tokens
from benchmarks.servers.transformers_generate import TransformersGenerate
from benchmarks.servers.vllm import make_vllm, one_cpu_per_core

# Answers /health, and has a child of its own whose process id it writes down.
SERVER = """
import http.server, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[2], "child").write_text(str(child.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    return Launch(checkpoint=tmp_path, dtype="float32", scratch=tmp_path)


def scripted(script: str) -> CommandServer:
    def command(launch: Launch, port: int) -> list[str]:
        return [sys.executable, "-c", script, str(port), str(launch.scratch)]

    return CommandServer(name="scripted", versions={}, command=command)


def child_of(launch: Launch) -> psutil.Process:
    return psutil.Process(int((launch.scratch / "child").read_text()))


async def test_a_server_is_ready_once_its_health_route_answers_and_gone_afterwards(launch: Launch) -> None:
    async with scripted(SERVER).started(launch) as started:
        assert started.target.url.startswith("http://127.0.0.1:")
        child = child_of(launch)
        server = child.parent()
        assert server is not None
        assert {process.status() for process in (server, child)} <= {"running", "sleeping"}
    assert not server.is_running()
    assert not child.is_running()


async def test_a_server_is_gone_after_an_error_and_after_an_interrupt(launch: Launch) -> None:
    async def fail(how: type[BaseException]) -> None:
        async with scripted(SERVER).started(launch):
            children.append(child_of(launch))
            raise how

    children: list[psutil.Process] = []
    for how in (RuntimeError, asyncio.CancelledError, KeyboardInterrupt):
        with pytest.raises(how):
            await fail(how)
    assert [child.is_running() for child in children] == [False, False, False]


async def test_a_server_that_ends_early_is_told_with_the_end_of_its_log(launch: Launch) -> None:
    server = scripted("import sys; print('starting'); sys.exit('error: no such model')")
    with pytest.raises(ServerFailedError, match=r"ended with status 1\n(.*\n)*.*error: no such model"):
        async with server.started(launch):
            pass


async def test_what_a_server_that_ends_early_leaves_behind_is_ended(launch: Launch) -> None:
    server = scripted(f"{SERVER.split('class Handler')[0]}\nsys.exit('error: no such model')")
    with pytest.raises(ServerFailedError, match="no such model"):
        async with server.started(launch):
            pass
    assert not psutil.pid_exists(int((launch.scratch / "child").read_text()))


async def test_a_server_that_never_gets_ready_is_given_up(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.servers.process.START_SECONDS", 0.2)
    with pytest.raises(ServerFailedError, match="not ready within"):
        async with scripted("import time; time.sleep(600)").started(launch):
            pass
    assert not [each for each in psutil.Process().children() if "time.sleep(600)" in str(each.cmdline())]


async def test_a_server_that_ignores_the_request_to_end_is_killed(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.servers.process._STOP_SECONDS", 0.2)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
    async with scripted(stubborn).started(launch):
        server = child_of(launch).parent()
        assert server is not None
    assert not server.is_running()


async def test_a_command_that_does_not_exist_is_told(tmp_path: Path) -> None:
    async def ready() -> bool:
        return True

    with pytest.raises(ServerFailedError, match="/nowhere/serve cannot be started: No such file"):
        async with server_process(["/nowhere/serve"], {}, tmp_path / "log", ready):
            pass


async def test_a_running_server_must_answer(launch: Launch) -> None:
    running = RunningServer(Target(f"http://127.0.0.1:{free_port()}", "m"))
    with pytest.raises(ServerFailedError, match="nothing answers"):
        async with running.started(launch):
            pass


def test_this_server_is_started_through_its_launcher_on_loopback(launch: Launch) -> None:
    server = make_tgi(("--num-shard", "2"))
    command = " ".join([*server.command(launch, 4321), *server.options])
    assert "-m tgi_launcher.cli" in command
    assert f"--model-id {launch.checkpoint}" in command
    assert "--hostname 127.0.0.1 --port 4321" in command
    assert command.endswith("--num-shard 2")
    assert "torch" in server.versions


def test_this_server_tells_how_many_tokens_its_kv_blocks_hold() -> None:
    metrics = """
# TYPE tgi_batch_max_total_tokens gauge
tgi_batch_max_total_tokens 1600
# TYPE tgi_kv_blocks_total gauge
tgi_kv_blocks_total 99
# TYPE tgi_kv_blocks_used gauge
tgi_kv_blocks_used 2
# TYPE tgi_kv_blocks_cached gauge
tgi_kv_blocks_cached 5
"""
    assert read_kv_tokens(metrics) == 7 * 16


async def test_a_server_without_such_metrics_does_not_tell(launch: Launch) -> None:
    async with scripted(SERVER).started(launch) as started:
        assert await started.kv_cache_tokens() is None


def test_vllm_is_started_from_its_own_environment_on_the_cpus_there_are(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm-0.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Name: vllm\nVersion: 0.0+cpu\n")
    (tmp_path / "lib" / "libiomp5.so").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vllm").touch()
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1_000_003, 1_000_001})
    server = make_vllm(tmp_path)
    command = " ".join([*server.command(launch, 4321), *server.options])
    assert command.startswith(f"{tmp_path}/bin/vllm serve {launch.checkpoint} ")
    assert "--dtype float32 --host 127.0.0.1 --port 4321" in command
    assert server.versions == {"vllm": "0.0+cpu"}
    assert server.environment["VLLM_CPU_OMP_THREADS_BIND"] == "1000001,1000003"
    assert server.environment["LD_PRELOAD"].endswith(f"{tmp_path}/lib/libiomp5.so")


def test_vllm_that_is_not_installed_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServerFailedError, match=r"vllm is not installed.*`make bench-vllm`"):
        make_vllm(tmp_path)


def test_threads_get_a_core_each(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings)
    assert one_cpu_per_core({3, 2, 1, 0}, tmp_path) == [0, 1]
    assert one_cpu_per_core({2, 3}, tmp_path) == [2, 3]
    assert one_cpu_per_core({5, 4}, tmp_path) == [4, 5]


@pytest.mark.slow
async def test_transformers_generates_in_static_batches(tmp_path: Path) -> None:
    from benchmarks.checkpoint import ensure_checkpoint
    from benchmarks.shapes import Shape

    checkpoint = ensure_checkpoint(Shape("tiny", 2, 48, 6, 2, 96, 8100, 1e4), tmp_path / "tiny")
    told: list[None] = []
    async with TransformersGenerate().started(Launch(checkpoint, "float32", tmp_path)) as worker:
        work = Work(("baba", "baba tulo moze", "dede"), output_tokens=5, streams=2)
        record = await worker.run(work, lambda: told.append(None))
    assert [(answer.prompt_tokens, answer.output_tokens) for answer in record.answers] == [
        (1, 5),
        (3, 5),
        (1, 5),
    ]
    for answer in record.answers:
        assert len(answer.arrivals) == 5
        assert answer.sent < answer.arrivals[0]
    assert record.answers[0].arrivals == record.answers[1].arrivals
    assert record.answers[2].sent > record.answers[0].arrivals[-1]
    assert len(told) == 3
    assert not worker.process.is_running()


@pytest.mark.slow
async def test_a_model_that_transformers_cannot_load_is_told(launch: Launch) -> None:
    with pytest.raises(ServerFailedError, match="the worker ended"):
        async with TransformersGenerate().started(launch):
            pass
