"""Threads for text work that would hold up the event loop: tokenizing and templating."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from tgi_router.generation import OverloadedError

T = TypeVar("T")


class TextWorkers:
    """A pool of threads with a bounded line in front of it.

    Args:
        threads: how many work at once.
        max_pending: how many calls may be under way or waiting, over all threads.
    """

    def __init__(self, threads: int, max_pending: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="text-worker")
        self._max_pending = max_pending
        self._pending = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread. Cancelling drops it, if it has not begun.

        Raises:
            OverloadedError: `max_pending` calls are under way already.
        """
        if self._pending >= self._max_pending:
            raise OverloadedError("Model is overloaded")
        self._pending += 1
        job = _Job(work)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        finally:
            self._pending -= 1
            job.drop()

    def close(self) -> None:
        """Let the threads end; what has not begun is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Job(Generic[T]):
    """A piece of work that can be let go while it stands in the pool's line, which keeps what was cancelled.

    Without that, clients that send long texts and leave could fill the memory behind one slow text.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work: Callable[[], T] | None = work

    def __call__(self) -> T:
        work = self._work
        if work is None:
            raise asyncio.CancelledError
        return work()

    def drop(self) -> None:
        """Let go of the work, done or not."""
        self._work = None
