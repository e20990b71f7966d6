"""The peer `transformers`: its `generate` on static batches, without a server around it.

What one gets by writing a loop oneself: a batch ends with its last answer, and only then the next one begins.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from subprocess import PIPE
from typing import TypeVar

import msgspec
import psutil

from benchmarks.cases import Work
from benchmarks.machine import package_versions
from benchmarks.measurement import Answer, RunRecord
from benchmarks.servers.base import Launch, ServerFailedError
from benchmarks.servers.process import START_SECONDS, end_of_log, start, stop
from benchmarks.servers.transformers_worker import Batch, BatchRecord, Ready


@dataclass(frozen=True, slots=True)
class StartedWorker:
    """A worker that has loaded the model; it takes a line of JSON for each batch, and answers with one."""

    process: psutil.Popen

    @property
    def process_id(self) -> int:
        """The worker's."""
        return int(self.process.pid)

    async def kv_cache_tokens(self) -> int | None:
        """Answer None: a batch's cache is gone with the batch."""
        return None

    async def run(self, work: Work, on_answer: Callable[[], None]) -> RunRecord:
        """Generate batch by batch, as many prompts in each as the work has streams."""
        answers: list[Answer] = []
        started = time.perf_counter()
        for first in range(0, len(work.prompts), work.streams):
            prompts = work.prompts[first : first + work.streams]
            sent = time.perf_counter()
            record = await asyncio.to_thread(self._generate, Batch(prompts, work.output_tokens))
            for prompt_tokens in record.prompt_tokens:
                answers.append(Answer(sent, record.steps, prompt_tokens, work.output_tokens))
                on_answer()
        return RunRecord(tuple(answers), time.perf_counter() - started)

    def _generate(self, batch: Batch) -> BatchRecord:
        self.process.stdin.write(msgspec.json.encode(batch) + b"\n")
        self.process.stdin.flush()
        return _receive(self.process, BatchRecord)


@dataclass(frozen=True, slots=True)
class TransformersGenerate:
    """`generate` of the transformers library, in a process of its own."""

    name: str = "transformers"
    versions: Mapping[str, str] = field(default_factory=lambda: package_versions(("transformers", "torch")))
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: {"HF_HUB_OFFLINE": "1"})

    @contextlib.asynccontextmanager
    async def started(self, launch: Launch) -> AsyncIterator[StartedWorker]:
        """Start the worker, wait until it has loaded the model, stop it at the end.

        Raises:
            ServerFailedError: the model cannot be loaded; the message has the end of the worker's log.
        """
        command = [
            sys.executable,
            "-m",
            "benchmarks.servers.transformers_worker",
            str(launch.checkpoint),
            launch.dtype,
        ]
        process = start(command, self.environment, launch.log, stdin=PIPE, stdout=PIPE)
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.to_thread(_receive, process, Ready)
            yield StartedWorker(process)
        except (ServerFailedError, TimeoutError, BrokenPipeError) as error:
            raise ServerFailedError(f"the worker ended or hangs\n{end_of_log(launch.log)}") from error
        finally:
            stop(process)


_T = TypeVar("_T")


def _receive(process: psutil.Popen, expected: type[_T]) -> _T:
    """Wait for the worker's next line.

    Raises:
        ServerFailedError: it ended instead.
    """
    line = process.stdout.readline()
    if not line:
        raise ServerFailedError("the worker ended")
    return msgspec.json.decode(line, type=expected)
