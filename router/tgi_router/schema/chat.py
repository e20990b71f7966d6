"""/v1/chat/completions, as OpenAI documents it. Field order is the order on the wire."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from tgi_router.schema.numbers import U32
from tgi_router.schema.openai import SamplingFields, Usage


class TextPart(Struct, tag_field="type", tag="text"):
    """A piece of a message's content."""

    text: str


class Message(Struct, kw_only=True):
    """A turn of the conversation."""

    role: str
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: Any = None


class ChatRequest(SamplingFields, kw_only=True):
    """Body of /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: U32 | None = None
    logprobs: bool | None = None
    top_logprobs: U32 | None = None
    response_format: Any = None
    tools: Any = None
    tool_choice: Any = None


class TopLogprob(Struct):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct):
    """A generated token, and the likeliest ones in its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class Logprobs(Struct):
    """Log-probabilities of an answer, or of one chunk of it."""

    content: list[TokenLogprob]
    refusal: None = None


class AnswerMessage(Struct):
    """The model's turn."""

    role: str
    content: str
    refusal: None = None


class Choice(Struct):
    """The answer of a request that is not streamed."""

    index: int
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: str


class ChatCompletion(Struct):
    """Answer of a request that is not streamed."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


class Delta(Struct):
    """What a chunk adds to the model's turn."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct):
    """A chunk's part of the answer; `finish_reason` is null until the last."""

    index: int
    delta: Delta
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class ChatCompletionChunk(Struct):
    """One event of a streamed answer; `usage` is there only when it was asked for."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
