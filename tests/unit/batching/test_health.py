"""The health route's truth."""

import asyncio

from support.batcher_bench import StartBench
from support.fake_engine import PAGED, FakeEngine
from support.generations import make_request, read_all
from support.memory_shards import MemoryShards
from tgi_router.batching.health import Health
from tgi_router.batching.progress import Progress
from tgi_router.generation import ShardError


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class CountingShards(MemoryShards):
    """Shards that count how often they are asked for their health, and answer when told to."""

    def __init__(self) -> None:
        super().__init__(FakeEngine(PAGED))
        self.probes = 0
        self.answer = asyncio.Event()
        self.answer.set()

    async def health(self, deadline: float) -> None:
        self.probes += 1
        await self.answer.wait()
        await super().health(deadline)


async def test_idle_shards_are_asked() -> None:
    shards = CountingShards()
    health = Health(shards, Progress(), stall_seconds=60)

    assert await health.check() is None
    shards.health_error = ShardError("the device is gone")
    assert await health.check() == "the device is gone"
    shards.health_error = None
    assert await health.check() is None
    assert shards.probes == 3


async def test_callers_at_the_same_time_share_one_answer() -> None:
    shards = CountingShards()
    shards.answer.clear()
    health = Health(shards, Progress(), stall_seconds=60)
    callers = [asyncio.create_task(health.check()) for _ in range(5)]
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.sleep(0)
    shards.answer.set()

    answers = await asyncio.gather(*callers, return_exceptions=True)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [None] * 4
    assert shards.probes == 1


async def test_steps_that_finish_are_health_enough() -> None:
    shards = CountingShards()
    shards.health_error = ShardError("busy")
    clock = Clock()
    progress = Progress(clock)
    health = Health(shards, progress, stall_seconds=60)
    progress.work_arrived()
    for _ in range(5):
        clock.now += 50
        assert await health.check() is None
        progress.step_finished()

    assert shards.probes == 0


async def test_work_without_a_finished_step_for_too_long_is_unhealthy() -> None:
    clock = Clock()
    progress = Progress(clock)
    health = Health(CountingShards(), progress, stall_seconds=60)
    progress.work_arrived()
    clock.now += 40
    progress.work_arrived()
    clock.now += 21

    assert await health.check() == "requests are waiting, but no step has finished for 61 seconds"

    progress.step_finished()
    assert await health.check() is None


async def test_time_without_work_does_not_count() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.work_arrived()
    progress.work_done()
    clock.now += 1000
    progress.work_arrived()
    clock.now += 5

    assert progress.stalled_seconds == 5


async def test_the_batcher_tells_its_progress(start: StartBench) -> None:
    bench = await start(PAGED)
    seen = [bench.batcher.progress.busy]
    bench.shards.hold()
    entry = bench.submit(make_request([1, 2], 3))
    seen.append(bench.batcher.progress.busy)
    await bench.shards.step_held()
    seen.append(bench.batcher.progress.busy)

    bench.shards.release()
    await read_all(entry.stream)
    await bench.at_rest()

    assert [*seen, bench.batcher.progress.busy] == [False, True, True, False]
