"""Threads for text work that would hold up the event loop: tokenizing and templating."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Let the threads end; what has not begun is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
