"""Who is measured when, and what is kept of it."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import Case, Work
from benchmarks.machine import Machine, Revision
from benchmarks.measurement import Answer, RunRecord
from benchmarks.memory import ProcessMemory, ServerMemory
from benchmarks.record import Record, ServerSettings
from benchmarks.report import save_report
from benchmarks.rounds import Plan, ServerRound, run_rounds
from benchmarks.servers.base import Launch, ServerFailedError
from benchmarks.vocabulary import make_tokenizer

CASES = (
    Case("few-c1", streams=1, requests=2, own_tokens=6, output_tokens=4),
    Case("many-c3", streams=3, requests=6, own_tokens=2, output_tokens=3, shared_tokens=5),
)


@dataclass
class ScriptedServer:
    """Answers at once with figures made up from its speed, and writes down what happens to it."""

    name: str
    speed: float
    diary: list[str]
    received: list[Work] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    process_id: int | None = None

    @contextlib.asynccontextmanager
    async def started(self, launch: Launch) -> AsyncIterator["ScriptedServer"]:
        assert launch.scratch.is_dir()
        self.diary.append(f"{self.name} up")
        yield self
        self.diary.append(f"{self.name} down")

    async def run(self, work: Work, on_answer: Callable[[], None]) -> RunRecord:
        self.received.append(work)
        for _ in work.prompts:
            on_answer()
        times = tuple((1 + step) / self.speed for step in range(work.output_tokens))
        answer = Answer(0.0, times, prompt_tokens=6, output_tokens=work.output_tokens)
        return RunRecord((answer,) * len(work.prompts), len(work.prompts) / self.speed)

    async def kv_cache_tokens(self) -> int | None:
        return None


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    make_tokenizer(8100).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def plan(checkpoint: Path, *servers: Any, rounds: int = 3) -> Plan:
    return Plan(servers, CASES, rounds, checkpoint, "float32", seed=1)


async def test_servers_take_turns_and_never_run_together(checkpoint: Path) -> None:
    diary: list[str] = []
    servers = (ScriptedServer("a", 1, diary), ScriptedServer("b", 2, diary))
    results = await run_rounds(plan(checkpoint, *servers))
    order = ["a", "b", "b", "a", "a", "b"]
    assert diary == [f"{name} {what}" for name in order for what in ("up", "down")]
    assert [(each.server, each.round) for each in results] == list(
        zip(order, [1, 1, 2, 2, 3, 3], strict=True)
    )


async def test_all_servers_do_the_same_work_and_no_prompt_comes_twice(checkpoint: Path) -> None:
    one, other = ScriptedServer("a", 1, []), ScriptedServer("b", 2, [])
    await run_rounds(plan(checkpoint, one, other, rounds=2))
    assert one.received[:4] == other.received[:4]
    warmups, works = one.received[::2], one.received[1::2]
    assert [len(work.prompts) for work in warmups] == [1] * 4
    assert [len(work.prompts) for work in works] == [2, 6, 2, 6]
    prompts = [prompt for work in one.received for prompt in work.prompts]
    assert len(set(prompts)) == len(prompts)


async def test_a_server_that_fails_is_named(checkpoint: Path) -> None:
    class Broken(ScriptedServer):
        async def run(self, work: Work, on_answer: Callable[[], None]) -> RunRecord:
            raise ServerFailedError("no such model")

    with pytest.raises(ServerFailedError, match=r"^broken: no such model"):
        await run_rounds(plan(checkpoint, Broken("broken", 1, [])))


async def test_what_a_server_that_takes_long_to_start_is_at_is_told(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = asyncio.Event()
    monkeypatch.setattr("benchmarks.rounds._TELL_SECONDS", 0.001)
    monkeypatch.setattr("benchmarks.rounds.tqdm.write", lambda text: (lines.append(text), told.set()))
    lines: list[str] = []

    class Slow(ScriptedServer):
        @contextlib.asynccontextmanager
        async def started(self, launch: Launch) -> AsyncIterator[ScriptedServer]:
            launch.log.write_text("loading\ncompiling\n")
            await told.wait()
            yield self

    await run_rounds(plan(checkpoint, Slow("slow", 1, []), rounds=1))
    assert lines[0] == "round 1/1 slow: starting for 0 s\n    compiling"


async def test_memory_of_the_servers_that_were_started_here_is_read_after_each_case(checkpoint: Path) -> None:
    class Child(ScriptedServer):
        async def kv_cache_tokens(self) -> int | None:
            return 10

    (checkpoint / "config.json").write_text(
        json.dumps({"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32})
    )
    ours, other = Child("ours", 1, [], process_id=os.getpid()), ScriptedServer("other", 1, [])
    here, elsewhere = await run_rounds(plan(checkpoint, ours, other, rounds=1))
    assert elsewhere.memory == {}
    assert list(here.memory) == ["few-c1", "many-c3"]
    memory = here.memory["few-c1"]
    assert memory.kv_cache == 10 * 3 * 2 * 32 * 4
    assert memory.processes[0].resident > 1 << 20
    assert memory.proportional <= sum(process.resident for process in memory.processes)


async def make_record(checkpoint: Path) -> Record:
    servers = (ScriptedServer("ours", 20, []), ScriptedServer("peer", 10, []))
    rounds = await run_rounds(plan(checkpoint, *servers))
    return Record(
        name="tiny",
        date="2026-11-21T08:00:00+00:00",
        model="tiny",
        dtype="float32",
        seed=1,
        weight_bytes=100 << 20,
        machine=Machine("Some CPU", 2, 2, 8 << 30, (), "Linux 6 x86_64", "3.11"),
        revision=Revision("0123456789abcdef", 0),
        environment={"OMP_NUM_THREADS": "2"},
        servers={
            "ours": ServerSettings(("--num-shard", "2"), {"torch": "2.13"}, {}),
            "peer": ServerSettings((), {}, {"VLLM_CPU_KVCACHE_SPACE": "2"}),
        },
        cases=CASES,
        rounds=tuple(rounds),
    )


async def test_the_record_is_kept_as_json_table_and_plot(checkpoint: Path, tmp_path: Path) -> None:
    page = save_report(await make_record(checkpoint), tmp_path / "results")
    assert page.name == "2026-11-21-tiny.md"
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "2026-11-21-tiny.json",
        "2026-11-21-tiny.md",
        "2026-11-21-tiny.png",
    ]
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads(page.with_suffix(".json").read_text())
    assert kept["servers"]["ours"] == {
        "options": ["--num-shard", "2"],
        "versions": {"torch": "2.13"},
        "environment": {},
    }
    assert kept["revision"] == {"commit": "0123456789abcdef", "changed_files": 0}
    assert [case["name"] for case in kept["cases"]] == ["few-c1", "many-c3"]
    assert len(kept["rounds"]) == 6
    assert kept["rounds"][0]["measurements"]["few-c1"]["output_tokens_per_s"] == 80
    assert kept["summary"][0]["output_tokens_per_s"] == {"median": 80, "lowest": 80, "highest": 80}
    assert kept["comparisons"][0]["output_tokens_per_s"]["median"] == 2


async def test_the_table_says_what_was_measured_and_how(checkpoint: Path, tmp_path: Path) -> None:
    text = save_report(await make_record(checkpoint), tmp_path / "results").read_text()
    assert "| few-c1 | ours | 80.0 (80.0-80.0) | 50.0 (50.0-50.0) |" in text
    assert "| few-c1 | 2.00 (2.00-2.00) | 0.50 (0.50-0.50) | 0.50 (0.50-0.50) |" in text
    assert "| many-c3 | 3 | 6 | 7 | 5 | 3 |" in text
    for fact in (
        "Some CPU",
        "8 GiB",
        "0123456789ab",
        "torch 2.13",
        "`--num-shard 2`",
        "`OMP_NUM_THREADS=2`",
        "peer: versions unknown; `VLLM_CPU_KVCACHE_SPACE=2`",
        "seed 1",
    ):
        assert fact in text
    assert "![" in text


async def test_the_table_says_how_much_memory_is_neither_weights_nor_keys_and_values(
    checkpoint: Path, tmp_path: Path
) -> None:
    record = await make_record(checkpoint)
    assert "Memory" not in save_report(record, tmp_path / "results").read_text()
    shard = ProcessMemory("shard", resident=300 << 20, peak_resident=400 << 20, proportional=280 << 20)
    router = ProcessMemory("router", resident=90 << 20, peak_resident=90 << 20, proportional=70 << 20)
    memory = dict.fromkeys(("few-c1", "many-c3"), ServerMemory((shard, router), kv_cache=50 << 20))
    rounds = [replace(each, memory=memory if each.server == "ours" else {}) for each in record.rounds]
    page = save_report(replace(record, rounds=tuple(rounds)), tmp_path / "results")
    assert "| few-c1 | ours | 350 | 300 | 400 | 50 | 150 |" in page.read_text()
    kept = json.loads(page.with_suffix(".json").read_text())
    assert kept["weight_bytes"] == 100 << 20
    assert kept["rounds"][0]["memory"]["few-c1"]["processes"][0]["resident"] == 300 << 20
    assert kept["summary"][0]["memory"]["kv_cache"]["median"] == 50 << 20


async def test_a_case_that_failed_throughout_still_makes_a_report(checkpoint: Path, tmp_path: Path) -> None:
    record = await make_record(checkpoint)
    nothing = {
        name: replace(
            figures, errors=2, itl_p50_ms=float("nan"), ttft_p50_ms=float("nan"), output_tokens_per_s=0.0
        )
        for name, figures in record.rounds[0].measurements.items()
    }
    rounds: list[ServerRound] = [replace(each, measurements=nothing) for each in record.rounds]
    page = save_report(replace(record, rounds=tuple(rounds)), tmp_path / "results")
    assert json.loads(page.with_suffix(".json").read_text())["summary"][0]["itl_p50_ms"]["median"] is None
    assert "| few-c1 | ours | 0.0 (0.0-0.0) | - |" in page.read_text()
