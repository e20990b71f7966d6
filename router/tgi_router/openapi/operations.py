"""The table of routes. One that is not listed fails a test; its line belongs here, not beside its handler."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tgi_router.openapi.operation import EVENTS, HTML, JSON, PAGES_TAG, TEXT, Answer, Operation
from tgi_router.schema.chat import ChatCompletion, ChatCompletionChunk, ChatRequest
from tgi_router.schema.completions import Completion, CompletionRequest
from tgi_router.schema.errors import ErrorResponse, OpenAIErrorResponse
from tgi_router.schema.generate import (
    ChatTokenizeResponse,
    CompatGenerateRequest,
    GenerateRequest,
    GenerateResponse,
    SimpleToken,
    StreamResponse,
)
from tgi_router.schema.info import Info
from tgi_router.schema.openai import ModelList
from tgi_router.schema.platforms import (
    VertexRequest,
    VertexResponse,
)


def body_errors(error: type[Struct]) -> tuple[Answer, ...]:
    """How a body is refused."""
    content = {JSON: error}
    return (
        Answer(400, "The body is not JSON, or not what its headers say", content),
        Answer(413, "The body is too long", content),
        Answer(415, "The body is not declared as JSON", content),
        Answer(422, "Input validation error", content),
    )


def generation_errors(error: type[Struct]) -> tuple[Answer, ...]:
    """How a generation fails before anything of it is sent."""
    content = {JSON: error}
    return (
        *body_errors(error),
        Answer(424, "Generation error", content),
        Answer(429, "Model is overloaded; `Retry-After` says when to try again", content),
        Answer(500, "Incomplete generation", content),
    )


def health(path: str, name: str) -> Operation:
    """The health route under one of its names."""
    return Operation(
        method="GET",
        path=path,
        name=name,
        summary="Health check",
        answers=(
            Answer(200, "Requests can be answered", {}),
            Answer(503, "They cannot, and why", {JSON: ErrorResponse}),
        ),
    )


def page(path: str, name: str, summary: str) -> Operation:
    """A page for people."""
    answers = (Answer(200, "The page", {HTML: str}),)
    return Operation(method="GET", path=path, name=name, summary=summary, tag=PAGES_TAG, answers=answers)


def page_file(path: str, name: str) -> Operation:
    """What a page consists of."""
    return Operation(
        method="GET",
        path=path,
        name=name,
        summary="A file of the page; with no name, the page itself",
        tag=PAGES_TAG,
        parameters={"name": "Name of the file"},
        answers=(
            Answer(200, "The file", {"*/*": str}),
            Answer(308, "To the page", {}),
            Answer(404, "There is no such file", {JSON: ErrorResponse}),
        ),
    )


PROMPT: dict[str, Any] = {"inputs": "Hello", "parameters": {"max_new_tokens": 20, "details": True}}
CHAT: dict[str, Any] = {
    "model": "tgi",
    "messages": [{"role": "user", "content": "What is 12 + 7?"}],
    "max_tokens": 20,
}
COMPLETION: dict[str, Any] = {"model": "tgi", "prompt": "1, 2, 3,", "max_tokens": 10}

OPERATIONS: Sequence[Operation] = (
    Operation(
        method="POST",
        path="/",
        name="compat_generate",
        summary="Generate, in one piece or as a stream, as `stream` says",
        request=CompatGenerateRequest,
        example=PROMPT | {"stream": False},
        answers=(
            Answer(200, "The generation", {JSON: list[GenerateResponse], EVENTS: StreamResponse}),
            *generation_errors(ErrorResponse),
        ),
    ),
    Operation(
        method="POST",
        path="/generate",
        name="generate",
        summary="Generate, answered in one piece",
        request=GenerateRequest,
        example=PROMPT,
        answers=(
            Answer(200, "The generation", {JSON: GenerateResponse}),
            *generation_errors(ErrorResponse),
        ),
    ),
    Operation(
        method="POST",
        path="/generate_stream",
        name="generate_stream",
        summary="Generate, with a server-sent event for each token",
        description="A generation that fails on the way ends with an event of the type `ErrorResponse`.",
        request=GenerateRequest,
        example=PROMPT,
        answers=(
            Answer(200, "The generation, token by token", {EVENTS: StreamResponse}),
            *generation_errors(ErrorResponse),
        ),
    ),
    Operation(
        method="POST",
        path="/v1/chat/completions",
        name="chat_completions",
        summary="Answer a conversation, as OpenAI's API does",
        description="A stream ends with `data: [DONE]`; before it, a failure is an `OpenAIErrorResponse`.",
        request=ChatRequest,
        example=CHAT,
        answers=(
            Answer(200, "The answer", {JSON: ChatCompletion, EVENTS: ChatCompletionChunk}),
            *generation_errors(OpenAIErrorResponse),
        ),
    ),
    Operation(
        method="POST",
        path="/v1/completions",
        name="completions",
        summary="Continue a text, as OpenAI's API does",
        description="A stream ends with `data: [DONE]`; before it, a failure is an `OpenAIErrorResponse`.",
        request=CompletionRequest,
        example=COMPLETION,
        answers=(
            Answer(200, "The continuations", {JSON: Completion, EVENTS: Completion}),
            *generation_errors(OpenAIErrorResponse),
        ),
    ),
    Operation(
        method="POST",
        path="/tokenize",
        name="tokenize",
        summary="The tokens of a text",
        description="`start` and `stop` count bytes of the text in UTF-8.",
        request=GenerateRequest,
        example={"inputs": "Hello world"},
        answers=(
            Answer(200, "The tokens", {JSON: list[SimpleToken]}),
            *body_errors(ErrorResponse),
            Answer(429, "Too many texts wait to be tokenized", {JSON: ErrorResponse}),
        ),
    ),
    Operation(
        method="POST",
        path="/chat_tokenize",
        name="get_chat_tokenize",
        summary="The prompt that a conversation becomes, and its tokens",
        request=ChatRequest,
        example=CHAT,
        answers=(
            Answer(200, "The prompt and its tokens", {JSON: ChatTokenizeResponse}),
            *body_errors(ErrorResponse),
            Answer(429, "Too many texts wait to be tokenized", {JSON: ErrorResponse}),
        ),
    ),
    Operation(
        method="POST",
        path="/invocations",
        name="sagemaker_compatibility",
        summary="Generate, chat or complete, as SageMaker asks it",
        description="A body with `inputs` is one of `/`, with `messages` a chat, with `prompt` a completion.",
        request=CompatGenerateRequest,
        example=PROMPT,
        answers=(
            Answer(200, "As the route that the body is of", {JSON: Any, EVENTS: Any}),
            *generation_errors(ErrorResponse),
        ),
    ),
    Operation(
        method="POST",
        path="/vertex",
        name="vertex_compatibility",
        summary="Generate, as Vertex AI asks it",
        description="An instance is a prompt, as of `/generate`, or a chat.",
        request=VertexRequest,
        example={"instances": [{"inputs": "Hello", "parameters": {"max_new_tokens": 5}}]},
        answers=(
            Answer(200, "The texts", {JSON: VertexResponse}),
            *generation_errors(ErrorResponse),
        ),
    ),
    Operation(
        method="GET",
        path="/info",
        name="get_model_info",
        summary="Model and limits",
        answers=(Answer(200, "What is served", {JSON: Info}),),
    ),
    Operation(
        method="GET",
        path="/v1/models",
        name="openai_get_model_info",
        summary="The model, as OpenAI's API lists it",
        answers=(Answer(200, "A list with one model", {JSON: ModelList}),),
    ),
    health("/", "root_health"),
    health("/health", "health"),
    health("/ping", "ping"),
    health("/livez", "livez"),
    health("/readyz", "readyz"),
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="Figures for Prometheus",
        answers=(Answer(200, "All metrics, in Prometheus' text format", {TEXT: str}),),
    ),
    Operation(
        method="GET",
        path="/api-doc/openapi.json",
        name="openapi",
        summary="This document",
        tag=PAGES_TAG,
        answers=(Answer(200, "OpenAPI 3.1", {JSON: dict[str, Any]}),),
    ),
    page("/docs", "docs", "This document to read and to try, in Swagger UI"),
    page_file("/docs/{name}", "docs_file"),
    page("/chat", "chat", "A page to chat with the model"),
    page_file("/chat/{name}", "chat_file"),
)
