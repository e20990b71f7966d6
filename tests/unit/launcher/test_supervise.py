import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest
import structlog
from structlog.testing import capture_logs

from support import fake_child
from tgi_launcher import supervise
from tgi_launcher.output import ChildLog
from tgi_launcher.plan import ProcessPlan
from tgi_launcher.readiness import NotReadyError
from tgi_launcher.supervise import Group, Supervisor

SECONDS = 30.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        # The conditions are about files and log lines of other processes: nothing sets an event.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def error_line(text: str) -> str:
    return "say:" + json.dumps({"event": text, "level": "error"})


@dataclass
class Scene:
    """A group of fake processes that count as ready once they have made their file."""

    folder: Path
    entries: list[dict[str, object]]
    download: tuple[str, ...] | None = None
    shards: list[tuple[str, ...]] = field(default_factory=list)
    router: tuple[str, ...] = ()
    graceful_seconds: float = SECONDS
    supervisor: Supervisor | None = None

    def __post_init__(self) -> None:
        self.shards = [self.ready_shard(0), self.ready_shard(1)]
        self.router = (self.journalled("router"), f"touch:{self.folder / 'router'}")

    def journalled(self, name: str) -> str:
        return f"journal:{self.folder / 'journal'}:{name}"

    def ready_shard(self, rank: int) -> tuple[str, ...]:
        return (self.journalled(f"shard {rank}"), f"touch:{self.folder / f's-{rank}'}")

    @property
    def sockets(self) -> list[Path]:
        return [self.folder / f"s-{rank}" for rank in range(len(self.shards))]

    @property
    def journal(self) -> list[str]:
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def lines(self) -> list[str]:
        return [str(entry["event"]) for entry in self.entries]

    def plan(self, name: str, actions: tuple[str, ...], rank: int | None = None) -> ProcessPlan:
        command = (sys.executable, "-IS", fake_child.__file__, *actions)
        return ProcessPlan(name, command, dict(os.environ), rank)

    async def answers(self, path: Path) -> None:
        await until(path.exists)

    def group(self) -> Group:
        return Group(
            download=self.plan("download", self.download) if self.download is not None else None,
            shards=[self.plan(f"shard {rank}", actions, rank) for rank, actions in enumerate(self.shards)],
            router=self.plan("router", self.router),
            sockets=self.sockets,
            url="http://there",
            shard_answers=self.answers,
            router_answers=lambda: self.answers(self.folder / "router"),
            make_output=lambda plan: ChildLog(structlog.get_logger(), plan.rank),
            graceful_seconds=self.graceful_seconds,
        )

    async def run(self, group: Group | None = None) -> int:
        async with asyncio.timeout(SECONDS):
            return await Supervisor(group or self.group()).run()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[int]"]:
        """A server that is ready; the block ends it."""
        task = asyncio.create_task(self.run())
        await until(lambda: "Ready: http://there" in self.lines or task.done())
        assert not task.done(), self.lines
        yield task
        assert task.done()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with capture_logs() as entries:
        yield Scene(tmp_path, entries)
    assert not [child for child in psutil.Process().children() if "fake_child" in " ".join(child.cmdline())]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", supervise.SIGNALS)
async def test_a_signal_ends_the_router_before_the_shards(scene: Scene, number: signal.Signals) -> None:
    async with scene.running() as task:
        send(number)
        assert await task == 0
    assert set(scene.journal[:2]) == {"shard 0 started", "shard 1 started"}
    assert scene.journal[2:5] == ["router started", "router asked to end", "router ended"]
    assert set(scene.journal[5:]) == {
        f"shard {rank} {what}" for rank in (0, 1) for what in ("asked to end", "ended")
    }
    assert not [path for path in scene.sockets if path.exists()]


async def test_the_download_comes_first(scene: Scene) -> None:
    scene.download = (scene.journalled("download"), "exit:0")
    async with scene.running() as task:
        send(signal.SIGTERM)
        assert await task == 0
    assert scene.journal[0] == "download started"
    assert "download asked to end" not in scene.journal


async def test_a_failed_download_ends_with_its_reason_and_starts_nothing(scene: Scene) -> None:
    scene.download = (error_line("the disk is full"), "exit:1")
    assert await scene.run() == 1
    assert scene.lines[-1] == "download exited with code 1: the disk is full"
    assert scene.journal == []


async def test_a_shard_that_cannot_load_ends_all_with_its_reason(scene: Scene) -> None:
    scene.shards[0] = (scene.journalled("shard 0"), "touch:" + str(scene.folder / "up"))
    scene.shards[1] = (f"until:{scene.folder / 'up'}", error_line("it is truncated"), "exit:1")
    assert await scene.run() == 1
    assert scene.lines[-1] == "shard 1 exited with code 1: it is truncated"
    assert scene.journal == ["shard 0 started"], "neither was the router started, nor shard 0 asked nicely"


async def test_an_exit_with_code_0_is_a_failure_too(scene: Scene) -> None:
    scene.shards[1] = ("exit:0",)
    assert await scene.run() == 1
    assert scene.lines[-1] == "shard 1 exited with code 0"


async def test_a_killed_shard_is_named_and_the_router_may_end_its_streams(scene: Scene) -> None:
    scene.shards[1] = (*scene.ready_shard(1), f"until:{scene.folder / 'now'}", "kill:SIGKILL")
    async with scene.running() as task:
        (scene.folder / "now").touch()
        assert await task == 1
    assert scene.lines[-1] == "shard 1 was killed by SIGKILL"
    assert scene.journal[-2:] == ["router asked to end", "router ended"]
    assert not [path for path in scene.sockets if path.exists()]


async def test_a_dead_router_ends_all(scene: Scene) -> None:
    scene.router = (*scene.router, f"until:{scene.folder / 'now'}", error_line("no memory"), "exit:3")
    async with scene.running() as task:
        (scene.folder / "now").touch()
        assert await task == 1
    assert scene.lines[-1] == "router exited with code 3: no memory"


async def test_a_router_that_never_gets_ready_is_told(scene: Scene) -> None:
    scene.router = (error_line("the limits exceed the model's"), "exit:1")
    assert await scene.run() == 1
    assert scene.lines[-1] == "router exited with code 1: the limits exceed the model's"


async def test_after_a_failure_a_stubborn_router_is_killed_soon(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "FAILURE_SECONDS", 0.05)
    scene.router = ("stubborn", f"touch:{scene.folder / 'router'}")
    scene.shards[0] = (*scene.ready_shard(0), f"until:{scene.folder / 'now'}", "exit:1")
    async with scene.running() as task:
        (scene.folder / "now").touch()
        assert await task == 1


async def test_a_signal_while_loading_ends_with_0(scene: Scene) -> None:
    scene.shards[1] = (scene.journalled("shard 1"),)
    task = asyncio.create_task(scene.run())
    await until(lambda: len(scene.journal) == 2)
    send(signal.SIGINT)
    assert await task == 0
    assert "router started" not in scene.journal


async def test_during_the_start_no_request_is_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "STARTING_SECONDS", 0.05)
    scene.graceful_seconds = 1000.0
    scene.shards[1] = (scene.journalled("shard 1"), "stubborn")
    task = asyncio.create_task(scene.run())
    await until(lambda: len(scene.journal) == 2)
    send(signal.SIGTERM)
    assert await task == 0


async def test_a_signal_while_downloading_ends_with_0(scene: Scene) -> None:
    scene.download = (scene.journalled("download"),)
    task = asyncio.create_task(scene.run())
    await until(lambda: scene.journal == ["download started"])
    send(signal.SIGTERM)
    assert await task == 0
    assert scene.journal == ["download started", "download asked to end", "download ended"]


async def test_who_does_not_end_in_time_is_killed(scene: Scene) -> None:
    scene.graceful_seconds = 0.1
    scene.router = ("stubborn", f"touch:{scene.folder / 'router'}")
    scene.shards[0] = ("stubborn", *scene.ready_shard(0)[1:])
    async with scene.running() as task:
        send(signal.SIGTERM)
        assert await task == 0


async def test_a_second_signal_ends_at_once(scene: Scene) -> None:
    scene.router = ("stubborn", f"touch:{scene.folder / 'router'}")
    scene.graceful_seconds = 1000.0
    async with scene.running() as task:
        send(signal.SIGTERM)
        await until(lambda: any(line.startswith("SIGTERM: stopping") for line in scene.lines))
        send(signal.SIGINT)
        assert await task == 0
    assert "SIGINT again: killing everything" in scene.lines


async def test_what_a_process_started_does_not_outlive_it(scene: Scene) -> None:
    pid = scene.folder / "pid"
    scene.shards[0] = (f"child:{pid}", "exit:1")
    assert await scene.run() == 1
    grandchild = int(pid.read_text())
    await until(lambda: not psutil.pid_exists(grandchild) or is_zombie(grandchild))


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_shard_that_answers_wrongly_is_told(scene: Scene) -> None:
    async def wrong(socket: Path) -> None:
        raise NotReadyError("it is another service")

    assert await scene.run(replace(scene.group(), shard_answers=wrong)) == 1
    assert scene.lines[-1] == "it is another service"


async def test_a_command_that_is_not_there_is_told(scene: Scene) -> None:
    group = scene.group()
    missing = replace(group.router, arguments=("/no/such/program",))
    assert await scene.run(replace(group, router=missing)) == 1
    assert scene.lines[-1].startswith("the router cannot be started: ")


async def test_long_loading_is_told_now_and_then(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "WAITING_LINE_SECONDS", 0.02)
    scene.shards[1] = (f"until:{scene.folder / 'now'}", *scene.ready_shard(1))
    task = asyncio.create_task(scene.run())
    await until(lambda: "waiting for shard 1 (0 s)" in scene.lines)
    (scene.folder / "now").touch()
    await until(lambda: "Ready: http://there" in scene.lines)
    send(signal.SIGTERM)
    assert await task == 0


async def test_all_a_dying_process_wrote_is_shown(scene: Scene) -> None:
    scene.shards[0] = ("raw:3000000", "complain:boom", "exit:1")
    assert await scene.run() == 1
    letters = sum(len(line) for line in scene.lines if line.startswith("x"))
    assert letters == 3_000_000
    assert {"event": "boom", "log_level": "warning", "rank": 0} in scene.entries
