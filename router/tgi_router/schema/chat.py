"""/v1/chat/completions, as OpenAI documents it. Field order is the order on the wire."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from tgi_router.schema.numbers import U32
from tgi_router.schema.openai import SamplingFields, Usage


class ContentPart(Struct, kw_only=True):
    """A piece of a message's content; `text` is the only type that the models here read."""

    type: str
    text: str | None = None


class FunctionCall(Struct, kw_only=True):
    """A call that the model made, its arguments as JSON text; TGI's clients send them as an object."""

    name: str
    arguments: str | dict[str, Any] = "{}"


class ToolCallMessage(Struct, kw_only=True):
    """A tool call in the history."""

    id: str = ""
    type: str = "function"
    function: FunctionCall


class Message(Struct, kw_only=True):
    """A turn of the conversation. A model's earlier reasoning may be sent under either of its two names."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallMessage] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Function(Struct, kw_only=True):
    """What a tool does, and the JSON schema of its arguments (`arguments` is TGI's older name for it)."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, kw_only=True):
    """A function that the model may call."""

    type: str = "function"
    function: Function


class FunctionName(Struct, kw_only=True):
    """A function to call."""

    name: str


class NamedTool(Struct, kw_only=True):
    """The one tool that the model must call."""

    type: str = "function"
    function: FunctionName


class ChatRequest(SamplingFields, kw_only=True):
    """Body of /v1/chat/completions.

    Attributes:
        tool_choice: `none`, `auto`, `required`, or the tool to call (as an object, or by its name alone).
        tool_prompt: TGI's: put before the tools where the model's template does not render them.
        chat_template_kwargs: more variables for the template.
        reasoning_effort: handed to the template, as that variable.
        continue_final_message: go on with the last message in place of answering it.
        separate_reasoning: whether reasoning is told apart from the answer (by default it is).
    """

    messages: list[Message]
    max_completion_tokens: U32 | None = None
    logprobs: bool | None = None
    top_logprobs: U32 | None = None
    tools: list[Tool] | None = None
    tool_choice: str | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    tool_prompt: str | None = None
    documents: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    separate_reasoning: bool | None = None


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


class CalledFunction(Struct):
    """A function and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(Struct):
    """A call that the model wants made."""

    id: str
    type: str
    function: CalledFunction


class AnswerMessage(Struct):
    """The model's turn. `reasoning` repeats `reasoning_content`: clients read either name."""

    role: str
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


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


class FunctionDelta(Struct):
    """What a chunk adds to a call: its name comes first, then its arguments in pieces."""

    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class ToolCallDelta(Struct):
    """What a chunk adds to one of the calls."""

    index: int
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: FunctionDelta | UnsetType = UNSET


class Delta(Struct):
    """What a chunk adds to the model's turn."""

    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


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
