"""Requests for fake shards, and what they must generate."""

from collections.abc import Sequence

from support.fake_engine import FakeEngine, Script, counting_script
from tgi_router.batching.stream import EventStream
from tgi_router.client.messages import ShardInfo
from tgi_router.client.warmup import ServerLimits
from tgi_router.generation import (
    EndEvent,
    GenerationEvent,
    PrefillEvent,
    SamplingParameters,
    StoppingParameters,
    ValidRequest,
)
from tgi_router.infer import GenerationStream

GREEDY = SamplingParameters()


def make_request(
    prompt: Sequence[int],
    max_new_tokens: int = 4,
    *,
    stop: tuple[str, ...] = (),
    ignore_eos: bool = False,
    parameters: SamplingParameters = GREEDY,
    top_n_tokens: int = 0,
    prefill_logprobs: bool = False,
    adapter_id: str | None = None,
) -> ValidRequest:
    """A request whose prompt reads the same as text and as token ids."""
    return ValidRequest(
        inputs=" ".join(map(str, prompt)),
        input_ids=list(prompt),
        add_special_tokens=True,
        truncate=len(prompt),
        parameters=parameters,
        stopping=StoppingParameters(max_new_tokens, stop, ignore_eos),
        top_n_tokens=top_n_tokens,
        prefill_logprobs=prefill_logprobs,
        adapter_id=adapter_id,
    )


def make_limits(
    engine: FakeEngine,
    *,
    max_batch_prefill_tokens: int = 64,
    max_batch_total_tokens: int | None = None,
    max_batch_size: int | None = None,
) -> ServerLimits:
    """Limits as warmup would settle them with this engine."""
    engine.max_prefill_tokens = max_batch_prefill_tokens
    if max_batch_total_tokens is None:
        max_batch_total_tokens = engine.kind.block_count * engine.kind.block_size
    return ServerLimits(
        max_input_tokens=max_batch_total_tokens - 1,
        max_total_tokens=max_batch_total_tokens,
        max_batch_prefill_tokens=max_batch_prefill_tokens,
        max_batch_total_tokens=max_batch_total_tokens,
        max_batch_size=max_batch_size,
        shard=ShardInfo.from_response(engine.info()),
    )


def expected_ids(prompt: Sequence[int], count: int, script: Script = counting_script) -> list[int]:
    """The tokens a fake shard answers a prompt with."""
    return [script(tuple(prompt), place) for place in range(count)]


async def read_all(stream: EventStream | GenerationStream) -> list[GenerationEvent]:
    """Every event of a stream to its end."""
    events: list[GenerationEvent] = []
    while taken := await stream.take():
        events.extend(taken)
    return events


def token_ids(events: Sequence[GenerationEvent]) -> list[int]:
    """The generated tokens among events."""
    return [event.token.id for event in events if not isinstance(event, PrefillEvent)]


def end_of(events: Sequence[GenerationEvent]) -> EndEvent:
    """The last event, which must be the end."""
    assert isinstance(events[-1], EndEvent)
    return events[-1]
