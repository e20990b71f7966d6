"""Fake shards in memory, for the batcher: no sockets, steps in a line, and a test can hold them back."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from support.fake_engine import FakeEngine
from tgi_proto import generate_pb2 as pb
from tgi_router.client.group import merge_steps
from tgi_router.client.messages import StepResult
from tgi_router.generation import ShardError

Answer = TypeVar("Answer")


class MemoryShards:
    """One fake engine, called as the batcher calls shards.

    Attributes:
        health_error: what Health fails with, if anything.
        prefill_hook: answers prefills in place of the engine.
        broken: methods that fail, each with its error.
        waiting: steps that were sent and are not answered.
        most_waiting: the most there have been of them.
    """

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.health_error: ShardError | None = None
        self.prefill_hook: Callable[[pb.PrefillRequest], pb.PrefillResponse] | None = None
        self.broken: dict[str, Exception] = {}
        self._gate = asyncio.Event()
        self._gate.set()
        self._holds_next = False
        self._entered = asyncio.Event()
        self._line = asyncio.Lock()
        self.waiting = 0
        self.most_waiting = 0

    def hold(self) -> None:
        """Let steps begin but not end."""
        self._gate.clear()
        self._entered.clear()

    def release(self) -> None:
        """Let steps end again."""
        self._gate.set()

    def let_one_end(self) -> None:
        """Let the step that is being held end, and hold the next one."""
        self.release()
        self._holds_next = True

    async def step_held(self) -> None:
        """Wait until a step is being held."""
        await self._entered.wait()

    async def steps_sent(self, count: int) -> None:
        """Wait until so many steps are sent and not answered."""
        while self.waiting < count:  # noqa: ASYNC110 - only tests wait for it
            await asyncio.sleep(0)

    async def prefill(
        self, batch: pb.Batch, cached_batch: pb.CachedBatch | None = None, *, ahead: bool = False
    ) -> StepResult:
        request = pb.PrefillRequest(batch=batch, cached_batch=cached_batch, accepts_errors=True, ahead=ahead)
        prefill = self.prefill_hook or self.engine.prefill
        return merge_steps([await self._step("prefill", lambda: prefill(request))])

    async def decode(self, batches: Sequence[pb.CachedBatch], *, ahead: bool = False) -> StepResult:
        request = pb.DecodeRequest(batches=batches, accepts_errors=True, ahead=ahead)
        return merge_steps([await self._step("decode", lambda: self.engine.decode(request))])

    async def filter_batch(self, batch_id: int, request_ids: Iterable[int]) -> pb.CachedBatch:
        request = pb.FilterBatchRequest(batch_id=batch_id, request_ids=request_ids)
        return self._call("filter_batch", lambda: self.engine.filter_batch(request))

    async def clear_cache(self, batch_id: int | None = None) -> None:
        self._call("clear_cache", lambda: self.engine.clear_cache(pb.ClearCacheRequest(id=batch_id)))

    async def health(self, deadline: float) -> None:
        if self.health_error is not None:
            raise self.health_error

    async def _step(self, method: str, call: Callable[[], Answer]) -> Answer:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            async with self._line:
                self._entered.set()
                await self._gate.wait()
                if self._holds_next:
                    self._holds_next = False
                    self.hold()
                # As over a socket, an answer never comes in the same turn of the event loop.
                await asyncio.sleep(0)
                return self._call(method, call)
        finally:
            self.waiting -= 1

    def _call(self, method: str, call: Callable[[], Answer]) -> Answer:
        if method in self.broken:
            raise self.broken[method]
        try:
            return call()
        except ShardError:
            raise
        except Exception as error:
            raise ShardError(str(error)) from error
