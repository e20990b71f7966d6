"""/v1/completions, as OpenAI documents it. Field order is the order on the wire."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from tgi_router.schema.numbers import I32
from tgi_router.schema.openai import SamplingFields, Usage


class CompletionRequest(SamplingFields, kw_only=True):
    """Body of /v1/completions."""

    prompt: str | list[str]
    suffix: str | None = None
    echo: bool | None = None
    best_of: I32 | None = None
    logprobs: Any = None


class CompletionChoice(Struct):
    """The continuation of one prompt, or a piece of it; `finish_reason` is null until its last piece."""

    index: int
    text: str
    logprobs: None = None
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
