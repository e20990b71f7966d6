"""Fake shards behind real gRPC servers on Unix sockets: inline in a test, or as a process of their own.

python -m support.fake_shard --uds-path /tmp/fake --kind padded --num-shard 2
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import grpc
import grpc.aio

from support.fake_engine import (
    PAGED,
    PAGED_AHEAD,
    PAGED_WHOLE_PROMPTS,
    TGI_PADDED,
    TGI_PAGED,
    FakeEngine,
    FakeShardKind,
)
from tgi_proto import generate_pb2 as pb
from tgi_proto import generate_pb2_grpc

KINDS = {
    "paged": PAGED,
    "ahead": PAGED_AHEAD,
    "whole-prompts": PAGED_WHOLE_PROMPTS,
    "tgi-paged": TGI_PAGED,
    "padded": TGI_PADDED,
}
MESSAGE_LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

Answer = TypeVar("Answer")
Step = TypeVar("Step", pb.PrefillResponse, pb.DecodeResponse)
Context = grpc.aio.ServicerContext[Any, Any]


class FakeShardService(generate_pb2_grpc.TextGenerationServiceServicer):
    """One rank. It runs every request, and answers for its own: those with id modulo ranks = rank, as in TGI.

    Attributes:
        engine: what it computes with.
        step_seconds: how long a step takes.
        hang: calls of these methods never return.
        unhealthy: what Health fails with, if anything.
        filler: bytes added to each answer of a step, as a message that no default limit lets through.
        sent_ahead: steps that came before the one they follow was answered.
    """

    def __init__(self, engine: FakeEngine, rank: int, urls: Sequence[str], step_seconds: float) -> None:
        self.engine = engine
        self.step_seconds = step_seconds
        self.hang: set[str] = set()
        self.unhealthy: str | None = None
        self.filler = 0
        self.sent_ahead = 0
        self._rank = rank
        self._urls = list(urls)
        self._last_step = 0
        self._step_ended = asyncio.Condition()

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:  # noqa: N802
        return self.engine.info()

    async def ServiceDiscovery(  # noqa: N802
        self, request: pb.ServiceDiscoveryRequest, context: Context
    ) -> pb.ServiceDiscoveryResponse:
        return pb.ServiceDiscoveryResponse(urls=self._urls)

    async def Health(self, request: pb.HealthRequest, context: Context) -> pb.HealthResponse:  # noqa: N802
        await self._enter("health", 0.0)
        if self.unhealthy is not None:
            await _fail(context, self.unhealthy)
        return pb.HealthResponse()

    async def ClearCache(self, request: pb.ClearCacheRequest, context: Context) -> pb.ClearCacheResponse:  # noqa: N802
        await self._call(context, lambda: self.engine.clear_cache(request))
        return pb.ClearCacheResponse()

    async def FilterBatch(self, request: pb.FilterBatchRequest, context: Context) -> pb.FilterBatchResponse:  # noqa: N802
        batch = await self._call(context, lambda: self.engine.filter_batch(request))
        return pb.FilterBatchResponse(batch=batch)

    async def Warmup(self, request: pb.WarmupRequest, context: Context) -> pb.WarmupResponse:  # noqa: N802
        return await self._call(context, lambda: self.engine.warmup(request))

    async def Prefill(self, request: pb.PrefillRequest, context: Context) -> pb.PrefillResponse:  # noqa: N802
        async with self._turn(request):
            await self._enter("prefill", self.step_seconds)
            return self._own(await self._call(context, lambda: self.engine.prefill(request)))

    async def Decode(self, request: pb.DecodeRequest, context: Context) -> pb.DecodeResponse:  # noqa: N802
        async with self._turn(request):
            await self._enter("decode", self.step_seconds)
            return self._own(await self._call(context, lambda: self.engine.decode(request)))

    @contextlib.asynccontextmanager
    async def _turn(self, request: pb.PrefillRequest | pb.DecodeRequest) -> AsyncIterator[None]:
        """Wait until the step before has ended."""
        if request.ahead:
            self.sent_ahead += 1
            async with self._step_ended:
                await self._step_ended.wait_for(lambda: self._last_step == request.step - 1)
        try:
            yield
        finally:
            async with self._step_ended:
                self._last_step = request.step
                self._step_ended.notify_all()

    async def _enter(self, method: str, seconds: float) -> None:
        if method in self.hang:
            await asyncio.Event().wait()
        if seconds:
            await asyncio.sleep(seconds)

    async def _call(self, context: Context, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except Exception as error:  # whatever it is, the caller gets its text
            await _fail(context, str(error))

    def _own(self, answer: Step) -> Step:
        ranks = len(self._urls)
        own = [generation for generation in answer.generations if generation.request_id % ranks == self._rank]
        del answer.generations[:]
        answer.generations.extend(own)
        if self.filler:
            answer.errors.add(request_id=2**63, message="x" * self.filler)
        return answer


class FakeShards:
    """A group of fake shards, served while its `async with` block runs.

    Attributes:
        services: one for each rank.
    """

    def __init__(
        self, uds_path: Path, kind: FakeShardKind = PAGED, *, num_shard: int = 1, step_seconds: float = 0.0
    ) -> None:
        self._paths = [Path(f"{uds_path}-{rank}") for rank in range(num_shard)]
        urls = [f"unix://{path}" for path in self._paths]
        self.services = [
            FakeShardService(FakeEngine(kind), rank, urls, step_seconds) for rank in range(num_shard)
        ]
        self._servers: list[grpc.aio.Server] = []

    @property
    def master(self) -> Path:
        """The socket of rank 0."""
        return self._paths[0]

    async def __aenter__(self) -> Self:
        for path, service in zip(self._paths, self.services, strict=True):
            server = grpc.aio.server(options=MESSAGE_LIMITS)
            generate_pb2_grpc.add_TextGenerationServiceServicer_to_server(service, server)
            server.add_insecure_port(f"unix:{path}")
            await server.start()
            self._servers.append(server)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for rank in range(len(self._servers)):
            await self.kill(rank)

    async def kill(self, rank: int) -> None:
        """Break all connections of one shard and answer no more."""
        await self._servers[rank].stop(grace=None)

    async def serve_forever(self) -> None:
        """Wait until the servers stop."""
        await asyncio.gather(*(server.wait_for_termination() for server in self._servers))


async def _fail(context: Context, message: str) -> NoReturn:
    await context.abort(grpc.StatusCode.INTERNAL, message)
    raise AssertionError("abort returned")


async def main() -> None:
    """Serve as the command line says, until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uds-path", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS, default="paged")
    parser.add_argument("--num-shard", type=int, default=1)
    parser.add_argument("--step-seconds", type=float, default=0.0)
    options = parser.parse_args()
    kind = KINDS[options.kind]
    shards = FakeShards(
        options.uds_path, kind, num_shard=options.num_shard, step_seconds=options.step_seconds
    )
    async with shards:
        await shards.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
