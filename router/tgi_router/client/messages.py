"""What shards say, as data, and how a request is written for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tgi_common.grammar import GrammarKind
from tgi_proto import generate_pb2 as pb
from tgi_router.generation import ValidRequest

_GRAMMAR_TYPES = {
    GrammarKind.JSON: pb.GRAMMAR_TYPE_JSON,
    GrammarKind.REGEX: pb.GRAMMAR_TYPE_REGEX,
    GrammarKind.LARK: pb.GRAMMAR_TYPE_LARK,
}


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """What kind of shards these are; the meaning of each field is told in generate.proto."""

    requires_padding: bool
    dtype: str
    device_type: str
    speculate: int
    support_chunking: bool
    use_prefix_caching: bool
    block_size: int
    max_inflight_steps: int
    accepts_input_ids: bool

    @classmethod
    def from_response(cls, response: pb.InfoResponse) -> Self:
        """Read an answer to Info."""
        return cls(
            requires_padding=response.requires_padding,
            dtype=response.dtype,
            device_type=response.device_type,
            speculate=response.speculate,
            support_chunking=response.support_chunking,
            use_prefix_caching=response.use_prefix_caching,
            block_size=response.block_size,
            max_inflight_steps=max(1, response.max_inflight_steps),
            accepts_input_ids=response.accepts_input_ids,
        )


@dataclass(frozen=True, slots=True)
class StepResult:
    """The answer of all shards to one Prefill or Decode.

    Attributes:
        generations: what was generated, one for each request that got that far.
        batch: what is left to decode; None when every request has ended.
        errors: requests that failed alone, by id, each with the reason.
        forward_seconds: time in the model.
        decode_seconds: time after the model.
        concat_seconds: time spent joining batches; None when none were joined.
    """

    generations: Sequence[pb.Generation]
    batch: pb.CachedBatch | None
    errors: dict[int, str]
    forward_seconds: float
    decode_seconds: float
    concat_seconds: float | None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a request's keys and values live.

    Attributes:
        blocks: KV blocks in the order of the request's tokens.
        tokens: tokens that were reserved room for.
        prefix_length: prompt tokens that the blocks already hold.
        chunk_length: prompt tokens to compute in the first step; None for all that are left.
    """

    blocks: Sequence[int]
    tokens: int
    prefix_length: int
    chunk_length: int | None


def write_request(
    request_id: int, request: ValidRequest, placement: Placement | None, shard: ShardInfo
) -> pb.Request:
    """A request as these shards read it.

    Shards that accept token ids get those and the blocks alone. Others get what TGI's router sends: the text
    twice, the length to cut it to, and a slot for each token.

    Args:
        request_id: its number.
        request: what to generate.
        placement: its blocks; None for shards that take none.
        shard: what the shards read.
    """
    message = pb.Request(
        id=request_id,
        parameters=_write_parameters(request),
        stopping_parameters=pb.StoppingCriteriaParameters(
            max_new_tokens=request.stopping.max_new_tokens,
            stop_sequences=request.stopping.stop_sequences,
            ignore_eos_token=request.stopping.ignore_eos_token,
            min_new_tokens=request.stopping.min_new_tokens,
            stop_token_ids=request.stopping.stop_token_ids,
        ),
        prefill_logprobs=request.prefill_logprobs,
        prefill_top_n_tokens=request.prefill_top_n_tokens,
        top_n_tokens=request.top_n_tokens,
        adapter_id=request.adapter_id,
        add_special_tokens=request.add_special_tokens,
        truncate=request.truncate,
    )
    if shard.accepts_input_ids:
        message.input_ids.extend(request.input_ids)
    else:
        message.input_chunks.chunks.add(text=request.inputs)
        message.inputs = request.inputs
    if placement is not None:
        message.blocks.extend(placement.blocks)
        message.cache_len = placement.prefix_length
        if placement.chunk_length is not None:
            message.chunk_len = placement.chunk_length
        if not shard.accepts_input_ids:
            message.slots.extend(slots_of(placement.blocks, shard.block_size, placement.tokens))
    return message


def slots_of(blocks: Sequence[int], block_size: int, tokens: int) -> list[int]:
    """The first `tokens` KV slots of some blocks: block x block_size + offset, in order."""
    slots = [slot for block in blocks for slot in range(block * block_size, (block + 1) * block_size)]
    return slots[:tokens]


def _write_parameters(request: ValidRequest) -> pb.NextTokenChooserParameters:
    parameters = request.parameters
    grammar = parameters.grammar
    return pb.NextTokenChooserParameters(
        temperature=parameters.temperature,
        top_k=parameters.top_k,
        top_p=parameters.top_p,
        typical_p=parameters.typical_p,
        do_sample=parameters.do_sample,
        seed=parameters.seed,
        repetition_penalty=parameters.repetition_penalty,
        frequency_penalty=parameters.frequency_penalty,
        watermark=parameters.watermark,
        grammar="" if grammar is None else grammar.source,
        grammar_type=pb.GRAMMAR_TYPE_NONE if grammar is None else _GRAMMAR_TYPES[grammar.kind],
        min_p=parameters.min_p,
        presence_penalty=parameters.presence_penalty,
        token_bias=parameters.token_bias,
    )
