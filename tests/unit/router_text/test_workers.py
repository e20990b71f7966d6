"""Text work in threads: bounded, cancellable."""

import asyncio
import gc
import threading
import weakref

import pytest

from tgi_router.generation import OverloadedError
from tgi_router.text.workers import TextWorkers


async def test_work_runs_in_another_thread_and_its_result_comes_back() -> None:
    workers = TextWorkers(1, 1)
    assert await workers.run(threading.get_ident) != threading.get_ident()
    workers.close()


async def test_errors_come_back_too() -> None:
    workers = TextWorkers(1, 1)
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    workers.close()


async def test_more_than_the_bound_is_refused_and_room_is_free_again_afterwards() -> None:
    workers, gate = TextWorkers(1, 2), threading.Event()
    waiting = [asyncio.create_task(workers.run(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await workers.run(int)
    gate.set()
    await asyncio.gather(*waiting)
    assert await workers.run(lambda: 5) == 5
    workers.close()


class Text:
    """A long text that waits for a thread."""

    def read(self) -> None:
        """Work on it."""


async def test_cancelled_work_holds_no_memory_while_the_threads_are_busy() -> None:
    workers, gate, text = TextWorkers(1, 5), threading.Event(), Text()
    kept = weakref.ref(text)
    busy = asyncio.create_task(workers.run(gate.wait))
    waiting = asyncio.create_task(workers.run(text.read))
    del text
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    del waiting
    gc.collect()
    is_kept = kept() is not None
    gate.set()
    await busy
    workers.close()
    assert not is_kept


async def test_cancelled_work_that_has_not_begun_is_not_done() -> None:
    workers, gate, done = TextWorkers(1, 5), threading.Event(), threading.Event()
    busy = asyncio.create_task(workers.run(gate.wait))
    waiting = asyncio.create_task(workers.run(done.set))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    gate.set()
    await busy
    await workers.run(int)
    assert waiting.cancelled()
    assert not done.is_set()
    workers.close()
