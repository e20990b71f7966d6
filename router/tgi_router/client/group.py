"""All shards of a group as one: each call goes to every shard, the answers become one."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeVar

from tgi_proto import generate_pb2 as pb
from tgi_router.client.messages import ShardInfo, StepResult
from tgi_router.client.shard import ShardClient
from tgi_router.generation import ShardError

NANOSECONDS = 1e9

AnswerT = TypeVar("AnswerT")


class Shards(Protocol):
    """What the batcher asks of the shards. Every call raises ShardError."""

    async def prefill(
        self, batch: pb.Batch, cached_batch: pb.CachedBatch | None = None, *, ahead: bool = False
    ) -> StepResult:
        """Run a step with new requests, joined to a batch the shards know if there is one.

        Args:
            batch: the new requests.
            cached_batch: the batch they join.
            ahead: sent before the answer of the step before was read, which the shards must allow
                (`max_inflight_steps`). The cached batch may have ended meanwhile.
        """

    async def decode(self, batches: Sequence[pb.CachedBatch], *, ahead: bool = False) -> StepResult:
        """Run a step of batches the shards know; several become one.

        Args:
            batches: the batches.
            ahead: as for `prefill`; a step of batches that have all ended has an empty answer.
        """

    async def filter_batch(self, batch_id: int, request_ids: Iterable[int]) -> pb.CachedBatch:
        """Keep only some requests of a batch."""

    async def clear_cache(self, batch_id: int | None = None) -> None:
        """Forget a batch, or all of them."""

    async def health(self, deadline: float) -> None:
        """Return when every shard says that its device computes, within `deadline` seconds."""


class ShardGroup:
    """The shards of one model, one for each rank.

    All of them get the same calls in the same order: steps are numbered, since those under way together may
    overtake each other. When one fails, the call fails at once, without waiting for the others.
    """

    def __init__(self, clients: Sequence[ShardClient]) -> None:
        self._clients = tuple(clients)
        self._steps = itertools.count(1)

    @classmethod
    async def connect(cls, master_uds_path: Path) -> Self:
        """Ask one shard for the sockets of all, and connect to them.

        Raises:
            ShardUnavailableError: nobody answers on that socket.
        """
        master = ShardClient(master_uds_path)
        try:
            paths = await master.discover()
        finally:
            await master.close()
        if not paths:
            raise ShardError(f"the shard at {master_uds_path} knows of no shards, not even itself")
        return cls([ShardClient(path) for path in paths])

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.close() for client in self._clients))

    async def info(self) -> ShardInfo:
        """What kind of shards they are: as the last one says."""
        answers = await self._ask(lambda client: client.info())
        return ShardInfo.from_response(answers[-1])

    async def clear_cache(self, batch_id: int | None = None) -> None:
        """Forget a batch, or all of them."""
        request = pb.ClearCacheRequest(id=batch_id)
        await self._ask(lambda client: client.clear_cache(request))

    async def filter_batch(self, batch_id: int, request_ids: Iterable[int]) -> pb.CachedBatch:
        """Keep only some requests of a batch."""
        request = pb.FilterBatchRequest(batch_id=batch_id, request_ids=request_ids)
        answers = await self._ask(lambda client: client.filter_batch(request))
        return answers[-1].batch

    async def warmup(self, request: pb.WarmupRequest) -> pb.WarmupResponse:
        """Run the largest prefill; the smallest answer counts, a missing figure being the smallest."""
        answers = await self._ask(lambda client: client.warmup(request))
        return min(answers, key=_warmup_order)

    async def prefill(
        self, batch: pb.Batch, cached_batch: pb.CachedBatch | None = None, *, ahead: bool = False
    ) -> StepResult:
        """Run a step with new requests, joined to a batch the shards know if there is one."""
        request = pb.PrefillRequest(
            batch=batch, cached_batch=cached_batch, accepts_errors=True, step=next(self._steps), ahead=ahead
        )
        return merge_steps(await self._ask(lambda client: client.prefill(request)))

    async def decode(self, batches: Sequence[pb.CachedBatch], *, ahead: bool = False) -> StepResult:
        """Run a step of batches the shards know; several become one."""
        request = pb.DecodeRequest(batches=batches, accepts_errors=True, step=next(self._steps), ahead=ahead)
        return merge_steps(await self._ask(lambda client: client.decode(request)))

    async def health(self, deadline: float) -> None:
        """Return when every shard says that its device computes, within `deadline` seconds."""
        await self._ask(lambda client: client.health(deadline))

    async def _ask(self, call: Callable[[ShardClient], Awaitable[AnswerT]]) -> list[AnswerT]:
        if len(self._clients) == 1:
            return [await call(self._clients[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_as_coroutine(call(client))) for client in self._clients]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]


def merge_steps(answers: Sequence[pb.PrefillResponse | pb.DecodeResponse]) -> StepResult:
    """One result from the shards' answers: each tells of some requests, the last one of the batch.

    The times are those of the slowest shard.
    """
    last = answers[-1]
    slowest = max(answers, key=_total_time)
    return StepResult(
        generations=[generation for answer in answers for generation in answer.generations],
        batch=last.batch if last.HasField("batch") else None,
        errors={error.request_id: error.message for answer in answers for error in answer.errors},
        forward_seconds=slowest.forward_ns / NANOSECONDS,
        decode_seconds=slowest.decode_ns / NANOSECONDS,
        concat_seconds=slowest.concat_ns / NANOSECONDS if slowest.HasField("concat_ns") else None,
    )


def _total_time(answer: pb.PrefillResponse | pb.DecodeResponse) -> int:
    return answer.total_ns


def _warmup_order(answer: pb.WarmupResponse) -> tuple[int, int, int]:
    known = answer.HasField("max_supported_total_tokens")
    supported = answer.max_supported_total_tokens if known else -1
    return supported, answer.max_input_tokens, answer.max_total_tokens


async def _as_coroutine(answer: Awaitable[AnswerT]) -> AnswerT:
    return await answer
