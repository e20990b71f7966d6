"""Fake shards in memory, for the batcher: no sockets, and steps that a test can hold back."""

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
    """

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.health_error: ShardError | None = None
        self.prefill_hook: Callable[[pb.PrefillRequest], pb.PrefillResponse] | None = None
        self.broken: dict[str, Exception] = {}
        self._gate = asyncio.Event()
        self._gate.set()
        self._entered = asyncio.Event()

    def hold(self) -> None:
        """Let steps begin but not end."""
        self._gate.clear()
        self._entered.clear()

    def release(self) -> None:
        """Let steps end again."""
        self._gate.set()

    async def step_held(self) -> None:
        """Wait until a step is being held."""
        await self._entered.wait()

    async def prefill(self, batch: pb.Batch, cached_batch: pb.CachedBatch | None = None) -> StepResult:
        request = pb.PrefillRequest(batch=batch, cached_batch=cached_batch, accepts_errors=True)
        prefill = self.prefill_hook or self.engine.prefill
        return merge_steps([await self._step("prefill", lambda: prefill(request))])

    async def decode(self, batches: Sequence[pb.CachedBatch]) -> StepResult:
        request = pb.DecodeRequest(batches=batches, accepts_errors=True)
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
        self._entered.set()
        await self._gate.wait()
        # As over a socket, an answer never comes in the same turn of the event loop.
        await asyncio.sleep(0)
        return self._call(method, call)

    def _call(self, method: str, call: Callable[[], Answer]) -> Answer:
        if method in self.broken:
            raise self.broken[method]
        try:
            return call()
        except ShardError:
            raise
        except Exception as error:
            raise ShardError(str(error)) from error
