"""How much fits: the largest prefill is run once, then what memory is left becomes the KV cache."""

from dataclasses import dataclass

from tgi_shard.engine.request import EngineRequest
from tgi_shard.engine.sequence import Sequence, start_sequence
from tgi_shard.engine.stopping import StoppingCriteria
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.text.tokenizer import ShardTokenizer


class NotEnoughMemoryError(RuntimeError):
    """The KV cache that fits cannot hold one request of the asked length."""


@dataclass(frozen=True, slots=True)
class WarmupRequest:
    """The largest prefill the router will send, and the limits its user has set."""

    prompt_lengths: list[int]
    max_prefill_tokens: int
    max_input_tokens: int | None
    max_total_tokens: int | None


@dataclass(frozen=True, slots=True)
class WarmupLimits:
    """What the shard can take: KV tokens in all, tokens of a prompt, tokens of a prompt with its answer."""

    kv_tokens: int
    max_input_tokens: int
    max_total_tokens: int


def warmup_sequences(
    request: WarmupRequest, block_size: int, max_length: int, tokenizer: ShardTokenizer
) -> list[Sequence]:
    """Prompts of the asked lengths, together no longer than the largest prefill, each in blocks of its own.

    They draw with every step of sampling on, so that the memory this takes is counted.

    Raises:
        ValueError: there is nothing to compute.
    """
    if not request.prompt_lengths or request.max_prefill_tokens < 1:
        raise ValueError("Warmup needs at least one request, and max_prefill_tokens of at least 1")
    sequences: list[Sequence] = []
    next_block, budget = 1, request.max_prefill_tokens
    # A prompt longer than the model's positions is cut in several: the memory of all of it is to be seen.
    lengths = list(reversed(request.prompt_lengths))
    while lengths and budget > 0:
        asked = lengths.pop()
        length = min(asked, max_length - 1, budget)
        if asked > length:
            lengths.append(asked - length)
        blocks = -(-length // block_size)
        warm = EngineRequest(
            id=len(sequences),
            prompt_ids=(0,) * length,
            sampling=SamplingParameters(
                temperature=0.9, top_k=10, top_p=0.9, typical_p=0.9, repetition_penalty=1.2
            ),
            stopping=StoppingCriteria(
                max_new_tokens=1, stop_sequences=(), ignore_eos=True, eos_ids=frozenset()
            ),
            blocks=tuple(range(next_block, next_block + blocks)),
            top_n_tokens=20,
        )
        sequences.append(start_sequence(warm, tokenizer))
        next_block += blocks
        budget -= length
    return sequences


def derive_limits(request: WarmupRequest, num_blocks: int, block_size: int, max_length: int) -> WarmupLimits:
    """Fill in the limits that the user left open, as TGI does (flash_causal_lm.py, `warmup`).

    Args:
        request: the user's limits.
        num_blocks: blocks of the cache; block 0 is never given to a request.
        block_size: tokens in a block.
        max_length: the longest sequence that is served.

    Raises:
        NotEnoughMemoryError: one request of `max_total_tokens` would not fit.
        ValueError: the user's limits exceed the model's, or leave no room for an answer.
    """
    usable = (num_blocks - 1) * block_size
    if usable < 2:
        raise NotEnoughMemoryError(
            "no memory is left for the KV cache; free some, or raise the memory fraction"
        )
    max_total = request.max_total_tokens
    if max_total is None:
        max_total = min(usable, max_length)
    elif max_total < 2:
        raise ValueError(f"max_total_tokens is {max_total}; it must be at least 2, a prompt and its answer")
    elif max_total > max_length:
        raise ValueError(
            f"max_total_tokens is {max_total}, but the model serves at most {max_length} here; lower it"
        )
    elif max_total > usable:
        raise NotEnoughMemoryError(
            f"the KV cache holds {usable} tokens, fewer than max_total_tokens {max_total}; lower that, "
            "or raise the memory fraction"
        )
    max_input = request.max_input_tokens if request.max_input_tokens is not None else max_total - 1
    return WarmupLimits(num_blocks * block_size, max_input, max_total)
