"""A new request as the engine takes it, and the checks that keep a bad one out of the batch."""

from dataclasses import dataclass

from tgi_shard.engine.stopping import StoppingCriteria
from tgi_shard.grammar.matcher import CompiledGrammar
from tgi_shard.sampling.parameters import SamplingParameters


class RequestRefusedError(ValueError):
    """A request cannot be computed as it was sent. The text names what was wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A request to prefill.

    Attributes:
        prompt_ids: the prompt, special tokens included, truncated; never empty.
        blocks: KV blocks reserved for it, in the order of its tokens.
        cached_length: prompt tokens whose keys and values the blocks already hold.
        chunk_length: prompt tokens to compute in its first step; the whole rest when None.
        prompt_logprobs: answer the log-probability of each prompt token.
        prompt_top_n_tokens: with these, answer so many of the likeliest tokens in the place of each.
        grammar: what the generated text must match.
    """

    id: int
    prompt_ids: tuple[int, ...]
    sampling: SamplingParameters
    stopping: StoppingCriteria
    blocks: tuple[int, ...]
    cached_length: int = 0
    chunk_length: int | None = None
    top_n_tokens: int = 0
    prompt_logprobs: bool = False
    prompt_top_n_tokens: int = 0
    grammar: CompiledGrammar | None = None

    @property
    def needed_slots(self) -> int:
        """KV slots it can come to use: the last generated token is never run through the model."""
        return len(self.prompt_ids) + self.stopping.max_new_tokens - 1


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What block ids and token ids must stay within."""

    num_blocks: int
    block_size: int
    vocab_size: int
    max_length: int


def check_request(request: EngineRequest, shape: CacheShape) -> None:
    """Refuse a request that would read or write outside its memory.

    Raises:
        RequestRefusedError: the first rule it breaks.
    """
    prompt_length = len(request.prompt_ids)
    if prompt_length == 0:
        raise RequestRefusedError("the prompt has no tokens; send at least one")
    if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < shape.vocab_size:
        raise RequestRefusedError(f"a prompt token id lies outside the vocabulary of {shape.vocab_size}")
    for name, ids in (("biased", request.sampling.token_bias), ("stop", request.stopping.stop_ids)):
        if ids and max(ids) >= shape.vocab_size:
            raise RequestRefusedError(
                f"the {name} token id {max(ids)} lies outside the vocabulary of {shape.vocab_size}"
            )
    if request.needed_slots > shape.max_length:
        raise RequestRefusedError(
            f"the prompt's {prompt_length} tokens and {request.stopping.max_new_tokens} new ones exceed the "
            f"{shape.max_length} positions of this model"
        )
    if not 0 <= request.cached_length < prompt_length:
        raise RequestRefusedError(
            f"cache_len is {request.cached_length}; it must be less than the prompt's {prompt_length} tokens"
        )
    rest = prompt_length - request.cached_length
    if request.chunk_length is not None and not 0 < request.chunk_length <= rest:
        raise RequestRefusedError(f"chunk_len is {request.chunk_length}; it must be from 1 to {rest}")
    check_blocks(request, shape)


def check_blocks(request: EngineRequest, shape: CacheShape) -> None:
    """Refuse block lists that are too short or point outside the cache.

    Raises:
        RequestRefusedError: naming the count needed, or the block at fault.
    """
    needed = -(-request.needed_slots // shape.block_size)
    if len(request.blocks) < needed:
        raise RequestRefusedError(
            f"{len(request.blocks)} KV blocks were given; {request.needed_slots} tokens need {needed} of "
            f"{shape.block_size}"
        )
    if max(request.blocks) >= shape.num_blocks:
        raise RequestRefusedError(
            f"KV block {max(request.blocks)} does not exist; there are {shape.num_blocks}"
        )
