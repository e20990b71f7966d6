"""/v1/completions, as OpenAI documents it. Field order is the order on the wire."""

from msgspec import UNSET, Struct, UnsetType

from tgi_router.schema.numbers import U32
from tgi_router.schema.openai import SamplingFields, Usage


class CompletionRequest(SamplingFields, kw_only=True):
    """Body of /v1/completions.

    Attributes:
        prompt: a text, a list of texts, the token ids of one prompt, or a list of those.
        logprobs: answer the log-probabilities of the tokens and of so many of the likeliest ones.
    """

    prompt: str | list[str | U32 | list[U32]]
    suffix: str | None = None
    echo: bool | None = None
    best_of: U32 | None = None
    logprobs: U32 | bool | None = None


class CompletionLogprobs(Struct):
    """Log-probabilities of a text's tokens, as lists side by side; null where a token has none.

    Attributes:
        text_offset: where each token begins in the text, in characters.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Struct):
    """The continuation of one prompt, or a piece of it; `finish_reason` is null until its last piece."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


class Completion(Struct):
    """The whole answer, or one event of a streamed one, whose `usage` is there only when asked for."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
