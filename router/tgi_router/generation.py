"""What travels between the HTTP side and the batching side: a checked request one way, its events back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from tgi_common.grammar import Grammar


class FinishReason(StrEnum):
    """Why a generation ended, in TGI's words."""

    LENGTH = "length"
    EOS_TOKEN = "eos_token"  # noqa: S105 - not a secret
    STOP_SEQUENCE = "stop_sequence"


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How tokens are chosen; every field resolved, the defaults are neutral.

    Attributes:
        min_p: drop tokens less likely than this share of the likeliest one's probability.
        token_bias: added to the scores of tokens, by id.
        grammar: what the text must match, checked: it compiles and is within the server's bounds.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    typical_p: float = 1.0
    do_sample: bool = False
    seed: int = 0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    watermark: bool = False
    min_p: float = 0.0
    presence_penalty: float = 0.0
    token_bias: Mapping[int, float] = field(default_factory=dict)
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class StoppingParameters:
    """When a generation ends.

    Attributes:
        min_new_tokens: nothing ends it before so many tokens.
        stop_token_ids: tokens that end it as the end-of-sequence token does.
    """

    max_new_tokens: int
    stop_sequences: tuple[str, ...] = ()
    ignore_eos_token: bool = False
    min_new_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ValidRequest:
    """A request that passed every check.

    Attributes:
        inputs: the prompt's text, for shards that tokenize themselves.
        input_ids: the prompt's tokens, special ones included, already truncated; never empty.
        truncate: the number of prompt tokens a shard that tokenizes itself must keep (the last ones).
        prefill_logprobs: answer the prompt's log-probabilities; such a request skips the prefix cache.
        prefill_top_n_tokens: answer so many of the likeliest tokens for each prompt token, too.
    """

    inputs: str
    input_ids: Sequence[int]
    add_special_tokens: bool
    truncate: int
    parameters: SamplingParameters
    stopping: StoppingParameters
    top_n_tokens: int = 0
    prefill_logprobs: bool = False
    prefill_top_n_tokens: int = 0
    adapter_id: str | None = None

    @property
    def input_length(self) -> int:
        """Number of prompt tokens."""
        return len(self.input_ids)


# The two that are made for every token are structs: making one costs a tenth of what a frozen dataclass does.
# They refer to nothing that could refer back, so the garbage collector need not know them.
class Token(Struct, frozen=True, gc=False):
    """One token with its log-probability (NaN where it was not computed)."""

    id: int
    text: str
    logprob: float
    special: bool = False


@dataclass(frozen=True, slots=True)
class PrefillEvent:
    """The prompt's tokens with their log-probabilities; comes before the first token, if it was asked for.

    Attributes:
        top_tokens: the likeliest tokens in the place of each, where they were asked for; none for the first.
    """

    tokens: list[Token]
    top_tokens: Sequence[Sequence[Token]] = ()


class TokenEvent(Struct, frozen=True, gc=False):
    """A generated token that is not the last one, with the likeliest tokens in its place if asked for."""

    token: Token
    top_tokens: Sequence[Token] = ()


@dataclass(frozen=True, slots=True)
class EndEvent:
    """The last token and the sum of the generation.

    Attributes:
        generated_text: the whole text, special tokens left out.
        seed: the seed, when the request sampled.
        queued_at: when the request entered the queue, `time.monotonic()` seconds.
        started_at: when its first batch was sent, same clock.
        cached_tokens: prompt tokens whose keys and values were there already.
    """

    token: Token
    top_tokens: Sequence[Token]
    generated_text: str
    finish_reason: FinishReason
    generated_tokens: int
    seed: int | None
    queued_at: float
    started_at: float
    cached_tokens: int = 0


GenerationEvent = PrefillEvent | TokenEvent | EndEvent


class InferenceError(Exception):
    """A generation could not be completed. Subclasses name TGI's error classes."""

    error_type = "generation"

    @property
    def public_text(self) -> str:
        """What clients are told, which may be less than the log is."""
        return str(self)


class OverloadedError(InferenceError):
    """No permit is free: HTTP 429."""

    error_type = "overloaded"


class ShardError(InferenceError):
    """A shard failed, or refused the request, during generation: HTTP 424."""

    error_type = "generation"


class IncompleteGenerationError(InferenceError):
    """The stream ended without its last event: HTTP 500."""

    error_type = "incomplete_generation"
