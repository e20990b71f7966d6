"""One shard: its eight calls over a Unix socket, with failures told in words."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar, cast

import grpc

from tgi_proto import generate_pb2 as pb
from tgi_proto.generate_pb2_grpc import TextGenerationServiceStub
from tgi_router.generation import ShardError

CHANNEL_OPTIONS = (
    # Prompt log-probabilities of a long prompt pass any default limit.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A socket file is never reached through a proxy.
    ("grpc.enable_http_proxy", 0),
)

# Seconds for FilterBatch and ClearCache: they compute nothing, and are sent while no step is under way.
BOOKKEEPING_TIMEOUT = 30.0

RequestT = TypeVar("RequestT", contravariant=True)
ResponseT = TypeVar("ResponseT", covariant=True)
AnswerT = TypeVar("AnswerT")


class ShardUnavailableError(ShardError):
    """A shard cannot be reached: it has died, or was never there. The message names its socket."""

    public_text = "a shard cannot be reached"


class ShardTimeoutError(ShardError):
    """A shard did not answer in time. The message names its socket."""

    public_text = "a shard did not answer in time"


class Call(Protocol[RequestT, ResponseT]):
    """One method of the service."""

    def __call__(self, request: RequestT, *, timeout: float | None = None) -> Awaitable[ResponseT]:
        """Send a request; await the answer."""


class Stub(Protocol):
    """The generated stub, with the types that its generator leaves out."""

    Info: Call[pb.InfoRequest, pb.InfoResponse]
    ServiceDiscovery: Call[pb.ServiceDiscoveryRequest, pb.ServiceDiscoveryResponse]
    ClearCache: Call[pb.ClearCacheRequest, pb.ClearCacheResponse]
    FilterBatch: Call[pb.FilterBatchRequest, pb.FilterBatchResponse]
    Warmup: Call[pb.WarmupRequest, pb.WarmupResponse]
    Prefill: Call[pb.PrefillRequest, pb.PrefillResponse]
    Decode: Call[pb.DecodeRequest, pb.DecodeResponse]
    Health: Call[pb.HealthRequest, pb.HealthResponse]


class ShardClient:
    """A connection to one shard. It is made by the first call.

    Every call raises:
        ShardUnavailableError: the shard cannot be reached.
        ShardTimeoutError: it did not answer in time.
        ShardError: the shard answered with an error; the text is the shard's own.
    """

    def __init__(self, uds_path: Path) -> None:
        self.uds_path = uds_path
        self._channel = grpc.aio.insecure_channel(f"unix:{uds_path}", options=CHANNEL_OPTIONS)
        self._stub = cast("Callable[[grpc.aio.Channel], Stub]", TextGenerationServiceStub)(self._channel)

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    async def info(self) -> pb.InfoResponse:
        """What kind of shard it is."""
        return await self._answer(self._stub.Info(pb.InfoRequest()))

    async def discover(self) -> list[Path]:
        """The sockets of all shards of its group."""
        answer = await self._answer(self._stub.ServiceDiscovery(pb.ServiceDiscoveryRequest()))
        return [Path(url.removeprefix("unix://")) for url in answer.urls]

    async def clear_cache(self, request: pb.ClearCacheRequest) -> pb.ClearCacheResponse:
        """Forget a batch, or all."""
        return await self._answer(self._stub.ClearCache(request, timeout=BOOKKEEPING_TIMEOUT))

    async def filter_batch(self, request: pb.FilterBatchRequest) -> pb.FilterBatchResponse:
        """Keep only some requests of a batch."""
        return await self._answer(self._stub.FilterBatch(request, timeout=BOOKKEEPING_TIMEOUT))

    async def warmup(self, request: pb.WarmupRequest) -> pb.WarmupResponse:
        """Run the largest prefill and size the cache. Takes as long as it takes."""
        return await self._answer(self._stub.Warmup(request))

    async def prefill(self, request: pb.PrefillRequest) -> pb.PrefillResponse:
        """Run a step with new requests. Takes as long as it takes."""
        return await self._answer(self._stub.Prefill(request))

    async def decode(self, request: pb.DecodeRequest) -> pb.DecodeResponse:
        """Run a step of known batches. Takes as long as it takes."""
        return await self._answer(self._stub.Decode(request))

    async def health(self, deadline: float) -> pb.HealthResponse:
        """Check the shard's device, within `deadline` seconds."""
        return await self._answer(self._stub.Health(pb.HealthRequest(), timeout=deadline))

    async def _answer(self, call: Awaitable[AnswerT]) -> AnswerT:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise self._to_shard_error(error) from None

    def _to_shard_error(self, error: grpc.aio.AioRpcError) -> ShardError:
        code = error.code()
        details = error.details() or code.name.lower().replace("_", " ")
        if code == grpc.StatusCode.UNAVAILABLE:
            return ShardUnavailableError(f"cannot reach the shard at {self.uds_path}: {details}")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ShardTimeoutError(f"the shard at {self.uds_path} did not answer in time")
        return ShardError(details)
