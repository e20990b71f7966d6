"""A real server for tests: the launcher as a subprocess on a free port, with sockets and a log of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import psutil
from prometheus_client.parser import text_string_to_metric_families

from support.api import Api
from support.waiting import eventually
from tgi_common.options import parse_boolean
from tgi_launcher.settings import Settings
from tgi_shard.kernels.build import COMPILERS

START_SECONDS = 60.0
STOP_SECONDS = 30.0
NO_KERNELS = "DISABLE_CUSTOM_KERNELS"
# Options travel in the environment too; those of the machine must not leak into a test. One is meant to: it
# says what computes in the whole run.
OPTION_VARIABLES = frozenset(option.name.upper() for option in fields(Settings)) - {NO_KERNELS}


class ServerDiedError(AssertionError):
    """The launcher ended before the server was ready."""


@dataclass
class Server:
    """A launcher and everything it started.

    Attributes:
        uds_path: the prefix of the shards' sockets.
        folder: a temporary folder of this server alone, removed at the end.
        seen: every process that was ever found below the launcher.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    uds_path: Path
    log_path: Path
    folder: Path
    seen: set[psutil.Process] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The address of the HTTP API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> Api:
        """A client of the HTTP API."""
        return Api(self.port)

    @property
    def log(self) -> str:
        """Everything written to standard output and standard error so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the launcher still runs."""
        return self.process.poll() is None

    def wait_until_ready(self, within: float = START_SECONDS) -> None:
        """Wait for a healthy server; fail with its log if it dies or takes too long."""
        deadline = time.monotonic() + within
        while not self._answers():
            if not self.alive:
                raise ServerDiedError(f"the launcher ended with {self.process.returncode}:\n{self.log}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready within {within:g} s:\n{self.log}")
            time.sleep(0.05)
        self.processes()

    def _answers(self) -> bool:
        try:
            return self.api.get("/health").status == 200
        except OSError:
            return False

    def processes(self) -> list[psutil.Process]:
        """The processes below the launcher, now."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        self.seen.update(children)
        return children

    @property
    def router(self) -> psutil.Process:
        """The router's process."""
        found = self._find("tgi_router", "text-generation-router")
        assert found, "no router runs below the launcher"
        return found[0]

    @property
    def shards(self) -> list[psutil.Process]:
        """The shards' processes: none while they are being started, or once they are gone."""
        return self._find("tgi_shard", "text-generation-server")

    def _find(self, *names: str) -> list[psutil.Process]:
        return [child for child in self.processes() if _command_names(child, names)]

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics: `name` or `name{label="value",...}` to its value.

        The parser thinks in OpenMetrics and adds `_total` to counters that, as TGI's, are written without.
        """
        reply = self.api.get("/metrics")
        assert reply.status == 200, reply.text
        return {
            _sample_name(family.type, sample.name) + _labels(sample.labels): sample.value
            for family in text_string_to_metric_families(reply.text)
            for sample in family.samples
        }

    def wait_until_idle(self, within: float = 20.0) -> None:
        """Wait until no request waits or runs and no KV block is held by one."""
        gauges = ("tgi_kv_blocks_used", "tgi_queue_size", "tgi_batch_current_size")

        def idle() -> bool:
            metrics = self.metrics()
            return all(metrics[gauge] == 0 for gauge in gauges)

        eventually(idle, f"{', '.join(gauges)} are all 0", within)

    def wait_for_exit(self, within: float) -> int:
        """Wait for the launcher to end; return its exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the launcher still runs after {within:g} s:\n{self.log}") from None

    def stop(self, within: float = STOP_SECONDS) -> None:
        """End the server as an operator does; it must exit with 0 and leave nothing behind."""
        assert self.alive, f"the launcher has ended with {self.process.returncode}:\n{self.log}"
        self.processes()
        self.process.send_signal(signal.SIGTERM)
        code = self.wait_for_exit(within)
        assert code == 0, f"the launcher ended with {code}:\n{self.log}"
        self.assert_nothing_left()

    def assert_nothing_left(self, within: float = 5.0) -> None:
        """Hold that no process and no socket of this server exists any more."""
        eventually(
            lambda: not self.left_processes(), f"processes gone, left: {self.left_processes()}", within
        )
        eventually(lambda: not self.left_sockets(), f"sockets gone, left: {self.left_sockets()}", within)

    def left_processes(self) -> list[psutil.Process]:
        """Processes of this server that still run, found by what was seen and by the path of its folder."""
        named = {process for process in psutil.process_iter() if _mentions(process, str(self.folder))}
        return [process for process in self.seen | named if _runs(process)]

    def left_sockets(self) -> list[Path]:
        """Sockets of this server's shards that still exist."""
        return list(self.uds_path.parent.glob(f"{self.uds_path.name}*"))

    def discard(self) -> None:
        """Kill whatever is left, without asking, and remove the temporary folder."""
        self.processes()
        if self.alive:
            self.process.kill()
            self.process.wait()
        for process in self.left_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Launch(Protocol):
    """Starts a launcher and waits for nothing; the fixture `start_launcher` is one."""

    def __call__(
        self,
        *options: str,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        uds_path: Path | None = None,
    ) -> Server:
        """Take what `launch` takes, without the log's path."""


def launch(
    log_path: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    port: int | None = None,
    uds_path: Path | None = None,
) -> Server:
    """Start the launcher with these options and wait for nothing.

    Without `uds_path` the sockets go into a short temporary folder: a socket's path may not exceed 107 bytes.
    """
    port = port if port is not None else free_port()
    folder = Path(tempfile.mkdtemp(prefix="tgi-"))
    uds_path = uds_path or folder / "shard"
    command = [
        sys.executable,
        "-m",
        "tgi_launcher.cli",
        "--port",
        str(port),
        "--shard-uds-path",
        str(uds_path),
    ]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*command, *options],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_environment() | dict(env or {}),
        )
    return Server(process, port, uds_path, log_path, folder)


@contextlib.contextmanager
def serving(log_path: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A ready server; at the end it is stopped and must have left nothing behind."""
    server = launch(log_path, *options, env=env)
    try:
        server.wait_until_ready()
        yield server
        server.stop()
    finally:
        server.discard()


def exact_options() -> tuple[str, ...]:
    """Options by which a text does not depend on what else runs.

    The kernels need none, their bits never do. What torch computes does, in bfloat16 visibly.
    """
    kernels = not parse_boolean(NO_KERNELS, os.environ.get(NO_KERNELS) or "false")
    return () if kernels and any(map(shutil.which, COMPILERS)) else ("--dtype", "float32")


def free_port() -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OPTION_VARIABLES}


def _command_names(process: psutil.Process, names: tuple[str, ...]) -> bool:
    try:
        return any(name in argument for argument in process.cmdline() for name in names)
    except psutil.NoSuchProcess:
        return False


def _mentions(process: psutil.Process, text: str) -> bool:
    try:
        return any(text in argument for argument in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _sample_name(kind: str, name: str) -> str:
    return name.removesuffix("_total") if kind == "counter" else name


def _labels(labels: Mapping[str, str]) -> str:
    return (
        "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}" if labels else ""
    )
