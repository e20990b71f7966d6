"""Start-up: warm the shards up, and turn their answers into the limits of this server."""

from dataclasses import dataclass

from tgi_proto import generate_pb2 as pb
from tgi_router.client.group import ShardGroup
from tgi_router.client.messages import ShardInfo

WARMUP_WORD = "_test "
# TGI's bound where neither the shards nor the user name one.
LEAST_BATCH_TOTAL_TOKENS = 16000
# TGI's, too.
DEFAULT_BATCH_PREFILL_TOKENS = 4096
# A CPU is as fast with a few hundred prompt tokens in a step as with thousands, and other requests wait less.
CPU_BATCH_PREFILL_TOKENS = 512


class LimitsError(ValueError):
    """The limits asked for contradict each other, or what the shards can do."""


@dataclass(frozen=True, slots=True)
class WantedLimits:
    """Limits as the user set them; None leaves the choice to warmup."""

    max_batch_prefill_tokens: int | None = None
    max_input_tokens: int | None = None
    max_total_tokens: int | None = None
    max_batch_total_tokens: int | None = None
    max_batch_size: int | None = None

    def largest_prefill(self, info: ShardInfo) -> int:
        """Prompt tokens of the largest step to warm such shards up with."""
        cuts_prompts_on_cpu = info.device_type == "cpu" and info.support_chunking
        default = CPU_BATCH_PREFILL_TOKENS if cuts_prompts_on_cpu else DEFAULT_BATCH_PREFILL_TOKENS
        return self.max_batch_prefill_tokens or default


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits that hold from now on, in tokens.

    Attributes:
        max_input_tokens: longest prompt.
        max_total_tokens: longest prompt and answer together.
        max_batch_prefill_tokens: prompt tokens in one step.
        max_batch_total_tokens: tokens that all running requests together may grow to.
        max_batch_size: requests in a step; None for no limit.
        shard: what kind of shards these are.
    """

    max_input_tokens: int
    max_total_tokens: int
    max_batch_prefill_tokens: int
    max_batch_total_tokens: int
    max_batch_size: int | None
    shard: ShardInfo

    @property
    def block_count(self) -> int:
        """KV blocks in the shards' cache, block 0 included; 0 for shards that take no blocks."""
        return 0 if self.shard.requires_padding else self.max_batch_total_tokens // self.shard.block_size


async def warm_up(shards: ShardGroup, wanted: WantedLimits) -> ServerLimits:
    """Clear the shards, warm them up, and settle the limits.

    Raises:
        ShardError: a shard failed.
        LimitsError: the limits do not fit together.
    """
    await shards.clear_cache()
    info = await shards.info()
    if not info.requires_padding and info.block_size == 0:
        raise LimitsError("the shards take KV blocks but report a block size of 0")
    answer = await shards.warmup(warmup_request(wanted, info))
    return settle_limits(wanted, info, answer)


def warmup_request(wanted: WantedLimits, info: ShardInfo) -> pb.WarmupRequest:
    """The largest prefill that will ever be sent, in as few prompts as the limits allow.

    As TGI builds it, but for the picture in its first request, which only vision models read, and the
    request ids, which are all 0 there.
    """
    requests: list[pb.Request] = []
    largest = left = wanted.largest_prefill(info)
    while left > 0 and (wanted.max_batch_size is None or len(requests) < wanted.max_batch_size):
        length = min(wanted.max_input_tokens or left, left)
        requests.append(_warmup_prompt(len(requests), length, wanted, info))
        left -= length
    return pb.WarmupRequest(
        batch=pb.Batch(id=0, requests=requests, size=len(requests), max_tokens=wanted.max_input_tokens or 0),
        max_input_tokens=wanted.max_input_tokens,
        max_prefill_tokens=largest,
        max_total_tokens=wanted.max_total_tokens,
    )


def _warmup_prompt(request_id: int, length: int, wanted: WantedLimits, info: ShardInfo) -> pb.Request:
    new_tokens = max(1, (wanted.max_total_tokens or 0) - length)
    request = pb.Request(
        id=request_id,
        truncate=length,
        add_special_tokens=True,
        prefill_logprobs=True,
        top_n_tokens=20,
        parameters=pb.NextTokenChooserParameters(
            temperature=0.9,
            top_k=10,
            top_p=0.9,
            typical_p=0.9,
            repetition_penalty=1.2,
            frequency_penalty=0.1,
            # Shards that read token ids are not TGI's, and need not know its watermark.
            watermark=not info.accepts_input_ids,
        ),
        stopping_parameters=pb.StoppingCriteriaParameters(max_new_tokens=new_tokens, ignore_eos_token=True),
    )
    if info.accepts_input_ids:
        # Which tokens they are does not matter; every vocabulary has a first one.
        request.input_ids.extend([0] * length)
    else:
        request.inputs = WARMUP_WORD * length
        request.input_chunks.chunks.add(text=request.inputs)
    return request


def settle_limits(wanted: WantedLimits, info: ShardInfo, answer: pb.WarmupResponse) -> ServerLimits:
    """The limits that follow from the user's wishes and the shards' answer.

    Raises:
        LimitsError: they do not fit together.
    """
    _check_answer(wanted, answer)
    max_input, max_total = answer.max_input_tokens, answer.max_total_tokens
    if answer.HasField("max_supported_total_tokens"):
        batch_total = answer.max_supported_total_tokens
    elif wanted.max_batch_total_tokens is not None:
        batch_total = wanted.max_batch_total_tokens
    else:
        batch_total = max(LEAST_BATCH_TOTAL_TOKENS, max_total, wanted.largest_prefill(info))
    longest = _longest_that_fits(batch_total, info)
    if max_total > longest and wanted.max_total_tokens is None:
        max_total = longest
        if wanted.max_input_tokens is None:
            max_input = min(max_input, max_total - 1)
    prefill = wanted.max_batch_prefill_tokens
    limits = ServerLimits(
        max_input_tokens=max_input,
        max_total_tokens=max_total,
        # A default that nobody asked for gives way to what there is.
        max_batch_prefill_tokens=min(wanted.largest_prefill(info), batch_total)
        if prefill is None
        else prefill,
        max_batch_total_tokens=batch_total,
        max_batch_size=wanted.max_batch_size,
        shard=info,
    )
    _check_limits(limits, longest)
    return limits


def _check_answer(wanted: WantedLimits, answer: pb.WarmupResponse) -> None:
    asked = (
        ("max_input_tokens", wanted.max_input_tokens, answer.max_input_tokens),
        ("max_total_tokens", wanted.max_total_tokens, answer.max_total_tokens),
    )
    for name, wish, answered in asked:
        if wish is not None and wish != answered:
            raise LimitsError(f"`{name}` is {wish} but the shards can only serve {answered}")


def _longest_that_fits(batch_total: int, info: ShardInfo) -> int:
    """Prompt and answer of the longest request that ever has room; its last token needs none."""
    if info.requires_padding:
        return batch_total - info.speculate
    usable_blocks = batch_total // info.block_size - 1
    return usable_blocks * info.block_size + 1 - info.speculate


def _check_limits(limits: ServerLimits, longest: int) -> None:
    max_input, max_total = limits.max_input_tokens, limits.max_total_tokens
    prefill, batch_total = limits.max_batch_prefill_tokens, limits.max_batch_total_tokens
    if max_input >= max_total:
        raise LimitsError(
            f"`max_input_tokens` ({max_input}) must be smaller than `max_total_tokens` ({max_total})"
        )
    if max_input > prefill and not limits.shard.support_chunking:
        raise LimitsError(
            f"`max_batch_prefill_tokens` ({prefill}) must be at least `max_input_tokens` ({max_input}), "
            "since these shards compute a prompt in one step"
        )
    if prefill > batch_total:
        raise LimitsError(
            f"`max_batch_prefill_tokens` ({prefill}) must not exceed `max_batch_total_tokens` ({batch_total})"
        )
    if max_total > longest:
        raise LimitsError(
            f"`max_total_tokens` ({max_total}) must not exceed {longest}: more does not fit in the memory of "
            f"the shards, which is {batch_total} tokens (`max_batch_total_tokens`)"
        )
