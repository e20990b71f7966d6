"""A shard without a model, which costs next to nothing: what is left of a token's way is the router's.

    python -m benchmarks.stub_shard --uds-path /tmp/stub --step-ms 20

It speaks the whole contract over gRPC on a Unix socket. Each step gives every request one more token, whose
text is the time when the step was answered, so that a client knows how long the token was on its way.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import grpc.aio
import typer
import uvloop

from tgi_proto import generate_pb2 as pb
from tgi_proto import generate_pb2_grpc
from tgi_shard.service.order import StepOrder

BLOCK_SIZE = 16
CACHE_TOKENS = 1 << 20
INFLIGHT_STEPS = 2

_MESSAGE_LIMITS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_TOKEN_ID = 1000
_LOGPROB = -0.5


def write_stamp() -> str:
    """The time now as a token's text: microseconds of the machine's monotonic clock."""
    return f" {time.monotonic_ns() // 1000}"


@dataclass(slots=True)
class Running:
    """A request that generates.

    Attributes:
        generation: what its next step answers; one message for all steps, of which only the text changes.
        left: tokens to come.
        room: tokens that its blocks hold.
    """

    generation: pb.Generation
    left: int
    room: int

    @classmethod
    def begin(cls, request: pb.Request) -> "Running":
        """Take a new request. Prompts are computed at once, also those that were cut."""
        tokens = pb.Tokens(ids=[_TOKEN_ID], logprobs=[_LOGPROB], texts=[""], is_special=[False])
        return cls(
            generation=pb.Generation(request_id=request.id, tokens=tokens),
            left=request.stopping_parameters.max_new_tokens,
            room=len(request.blocks) * BLOCK_SIZE,
        )

    def advance(self, stamp: str) -> pb.Generation:
        """The next token, with the sum of the generation if it is the last."""
        self.left -= 1
        self.generation.tokens.texts[0] = stamp
        if self.left == 0:
            self.generation.generated_text.finish_reason = pb.FINISH_REASON_LENGTH
        return self.generation


class StubShard(generate_pb2_grpc.TextGenerationServiceServicer):
    """Answers with one token for each request, until its `max_new_tokens`.

    Args:
        url: its own address.
        step_seconds: how long a step takes. Steps run one after the other, as on a device.
    """

    def __init__(self, url: str, step_seconds: float) -> None:
        self._url = url
        self._step_seconds = step_seconds
        self._order = StepOrder()
        self._device = asyncio.Lock()
        self._batches: dict[int, dict[int, Running]] = {}

    async def Info(self, request: pb.InfoRequest, context: Any) -> pb.InfoResponse:  # noqa: N802, ANN401
        """A shard that can all that ours can."""
        return pb.InfoResponse(
            dtype="bfloat16",
            device_type="cpu",
            support_chunking=True,
            use_prefix_caching=True,
            attention_impl="none",
            block_size=BLOCK_SIZE,
            max_inflight_steps=INFLIGHT_STEPS,
            accepts_input_ids=True,
        )

    async def ServiceDiscovery(  # noqa: N802
        self,
        request: pb.ServiceDiscoveryRequest,
        context: Any,  # noqa: ANN401
    ) -> pb.ServiceDiscoveryResponse:
        """Itself."""
        return pb.ServiceDiscoveryResponse(urls=[self._url])

    async def Health(self, request: pb.HealthRequest, context: Any) -> pb.HealthResponse:  # noqa: N802, ANN401
        """Always well."""
        return pb.HealthResponse()

    async def Warmup(self, request: pb.WarmupRequest, context: Any) -> pb.WarmupResponse:  # noqa: N802, ANN401
        """Room for whatever a benchmark may send."""
        return pb.WarmupResponse(
            max_supported_total_tokens=CACHE_TOKENS,
            max_input_tokens=request.max_input_tokens or CACHE_TOKENS // 2 - 1,
            max_total_tokens=request.max_total_tokens or CACHE_TOKENS // 2,
        )

    async def ClearCache(  # noqa: N802
        self,
        request: pb.ClearCacheRequest,
        context: Any,  # noqa: ANN401
    ) -> pb.ClearCacheResponse:
        """Forget a batch, or all."""
        async with self._device:
            for batch_id in [request.id] if request.HasField("id") else list(self._batches):
                self._batches.pop(batch_id, None)
        return pb.ClearCacheResponse()

    async def FilterBatch(  # noqa: N802
        self,
        request: pb.FilterBatchRequest,
        context: Any,  # noqa: ANN401
    ) -> pb.FilterBatchResponse:
        """Keep some requests of a batch."""
        async with self._device:
            batch = self._batches[request.batch_id]
            kept = {number: batch[number] for number in request.request_ids if number in batch}
            self._batches[request.batch_id] = kept
        return pb.FilterBatchResponse(batch=_describe(request.batch_id, kept))

    async def Prefill(self, request: pb.PrefillRequest, context: Any) -> pb.PrefillResponse:  # noqa: N802, ANN401
        """A step with new requests, and those of a cached batch."""
        batch = {message.id: Running.begin(message) for message in request.batch.requests}
        async with self._turn(request):
            batch_id = request.batch.id
            if request.HasField("cached_batch"):
                batch_id = request.cached_batch.id
                batch = self._batches.pop(batch_id, {}) | batch
            generations, left = await self._step(batch_id, batch)
        return pb.PrefillResponse(generations=generations, batch=left)

    async def Decode(self, request: pb.DecodeRequest, context: Any) -> pb.DecodeResponse:  # noqa: N802, ANN401
        """A step of cached batches, which become one."""
        async with self._turn(request):
            batch: dict[int, Running] = {}
            for cached in request.batches:
                # One that has ended meanwhile, when this step was sent ahead, is empty.
                batch |= self._batches.pop(cached.id, {})
            generations, left = await self._step(request.batches[0].id, batch)
        return pb.DecodeResponse(generations=generations, batch=left)

    @contextlib.asynccontextmanager
    async def _turn(self, request: pb.PrefillRequest | pb.DecodeRequest) -> AsyncIterator[None]:
        """Have the device, after all steps that were sent before."""
        if request.ahead:
            await self._order.wait_for(request.step - 1)
        # Who waits for this step queues up for the device behind it: its lock serves first who came first.
        self._order.started(request.step)
        async with self._device:
            yield

    async def _step(
        self, batch_id: int, batch: dict[int, Running]
    ) -> tuple[Sequence[pb.Generation], pb.CachedBatch | None]:
        """Give every request of a batch one more token; answers them, and what is left of the batch."""
        if self._step_seconds:
            await asyncio.sleep(self._step_seconds)
        stamp = write_stamp()
        generations = [running.advance(stamp) for running in batch.values()]
        left = {number: running for number, running in batch.items() if running.left > 0}
        if not left:
            return generations, None
        self._batches[batch_id] = left
        return generations, _describe(batch_id, left)


def _describe(batch_id: int, batch: dict[int, Running]) -> pb.CachedBatch:
    return pb.CachedBatch(
        id=batch_id,
        request_ids=batch,
        size=len(batch),
        max_tokens=sum(running.room for running in batch.values()),
        current_tokens=len(batch),
    )


async def serve(uds_path: Path, step_seconds: float) -> None:
    """Answer calls on a Unix socket until cancelled."""
    url = f"unix://{uds_path}"
    server = grpc.aio.server(options=_MESSAGE_LIMITS)
    generate_pb2_grpc.add_TextGenerationServiceServicer_to_server(StubShard(url, step_seconds), server)
    server.add_insecure_port(f"unix:{uds_path}")
    await server.start()
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(grace=None)


def main(
    uds_path: Annotated[Path, typer.Option(help="The socket to answer on.")],
    step_ms: Annotated[float, typer.Option(min=0.0, help="How long a step takes, in milliseconds.")] = 0.0,
) -> None:
    """Run a shard without a model."""
    uvloop.run(serve(uds_path, step_ms / 1e3))


if __name__ == "__main__":
    typer.run(main)
