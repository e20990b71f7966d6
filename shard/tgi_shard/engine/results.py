"""What a step answers, free of tensors and of protobuf."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tgi_shard.engine.stopping import FinishReason


@dataclass(frozen=True, slots=True)
class TokenList:
    """Some tokens with their texts and log-probabilities."""

    ids: list[int]
    logprobs: list[float]
    texts: list[str]
    is_special: list[bool]


@dataclass(frozen=True, slots=True)
class FinalText:
    """The sum of a generation that has ended."""

    text: str
    generated_tokens: int
    finish_reason: FinishReason
    seed: int | None


@dataclass(slots=True)  # freezing it would double the time to make one, and there is one for every token
class Output:
    """One request's share of a step."""

    request_id: int
    token_id: int
    logprob: float
    text: str
    is_special: bool
    top_tokens: TokenList | None = None
    prompt_tokens: TokenList | None = None
    prompt_top_tokens: Sequence[TokenList] = ()
    final: FinalText | None = None


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a batch holds after a step.

    Attributes:
        max_tokens: KV slots its requests have reserved.
        next_tokens: tokens the next step will compute.
    """

    id: int
    request_ids: list[int]
    max_tokens: int
    next_tokens: int


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """A request that was dropped from a step, with the reason."""

    request_id: int
    message: str

    @classmethod
    def of(cls, request_id: int, error: Exception) -> "RequestFailure":
        """The failure that an unexpected error is to a request."""
        return cls(request_id, describe(error))


@dataclass(slots=True)
class StepResult:
    """The answer to Prefill or Decode; times in nanoseconds."""

    outputs: list[Output] = field(default_factory=list)
    failures: list[RequestFailure] = field(default_factory=list)
    batch: BatchState | None = None
    forward_ns: int = 0
    decode_ns: int = 0
    concat_ns: int | None = None


def describe(error: Exception) -> str:
    """An exception in one line, for the request's owner."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
