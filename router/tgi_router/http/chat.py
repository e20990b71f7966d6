"""POST /v1/chat/completions."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web
from msgspec.json import Decoder

from tgi_router.http.answers import Answer, gather
from tgi_router.http.body import read_json
from tgi_router.http.chat_stream import ChatRenderer, logprobs
from tgi_router.http.headers import answer_headers, stream_headers
from tgi_router.http.json_response import json_response
from tgi_router.http.openai import (
    Stamp,
    finish_reason,
    generation_parameters,
    shown_answer,
    usage_of,
    wants_usage,
)
from tgi_router.http.services import Services
from tgi_router.http.sse import send_events
from tgi_router.http.start import Started, counting_refusals, start
from tgi_router.infer import Permit
from tgi_router.schema.chat import AnswerMessage, ChatCompletion, ChatRequest, Choice, Message
from tgi_router.schema.generate import GenerateParameters
from tgi_router.validation import UncheckedRequest, refuse

_CHAT = Decoder(ChatRequest)


class ChatRoutes:
    """The chat route."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of it."""
        return [web.post("/v1/chat/completions", self.complete)]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer the conversation in the body."""
        return await self.answer(
            request, await read_json(request, _CHAT, self._services.options.payload_limit)
        )

    async def answer(self, request: web.Request, body: ChatRequest) -> web.StreamResponse:
        """Answer a conversation, in one piece or as a stream."""
        services = self._services
        with services.inference.acquire() as permit:
            with counting_refusals(services, permit):
                valid, stream = await self._start(permit, body)
            stamp = Stamp.new("chatcmpl", services.info)
            if body.stream:
                renderer = ChatRenderer(
                    stamp,
                    valid,
                    with_logprobs=bool(body.logprobs),
                    with_usage=wants_usage(body),
                )
                headers = stream_headers(services.options.compute_type, len(valid.inputs))
                return await send_events(request, headers, [(stream, renderer)], renderer.append_ending)
            answer = await gather(valid, stream)
            headers = answer_headers(services.options.compute_type, permit.acquired_at, [answer])
        return json_response(completion(stamp, answer, with_logprobs=bool(body.logprobs)), headers)

    async def _start(self, permit: Permit, body: ChatRequest) -> Started:
        services = self._services
        parameters = chat_parameters(body)
        messages = template_messages(body.messages)
        prompt = await services.workers.run(lambda: services.template.render_chat(messages))
        unchecked = UncheckedRequest(
            prompt,
            parameters,
            add_special_tokens=False,  # the template writes them
            ignore_eos_token=bool(body.ignore_eos),
        )
        return await start(services, permit, unchecked)


def chat_parameters(body: ChatRequest) -> GenerateParameters:
    """TGI's parameters for a chat.

    Raises:
        ValidationError: a field asks for what this server cannot do.
    """
    both = (body.max_tokens, body.max_completion_tokens)
    if None not in both and body.max_tokens != body.max_completion_tokens:
        refuse("`max_tokens` and `max_completion_tokens` must not differ", "max_completion_tokens")
    if body.tools:
        refuse("`tools` are not supported", "tools")
    if body.tool_choice not in (None, "none", "auto"):
        refuse("`tool_choice` is not supported, except `none` and `auto`", "tool_choice")
    if body.response_format not in (None, {"type": "text"}):
        refuse("`response_format` is not supported, except of type `text`", "response_format")
    if body.top_logprobs and not body.logprobs:
        refuse("`top_logprobs` needs `logprobs` to be true", "top_logprobs")
    max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    parameters = generation_parameters(body, max_tokens)
    parameters.top_n_tokens = body.top_logprobs
    return parameters


def template_messages(messages: list[Message]) -> list[dict[str, Any]]:
    """Messages as templates read them: content as one text, no fields that are null.

    Raises:
        ValidationError: there are no messages, or one that cannot be used.
    """
    if not messages:
        refuse("`messages` cannot be empty", "messages")
    rendered = []
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if message.tool_calls:
            refuse(f"`{place}.tool_calls` are not supported", f"{place}.tool_calls")
        if message.content is None:
            refuse(f"`{place}.content` must be a text", f"{place}.content")
        content = message.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        fields = {
            "role": message.role,
            "content": content,
            "name": message.name,
            "tool_call_id": message.tool_call_id,
        }
        rendered.append({name: value for name, value in fields.items() if value is not None})
    return rendered


def completion(stamp: Stamp, answer: Answer, *, with_logprobs: bool) -> ChatCompletion:
    """A finished generation as a chat completion."""
    end = answer.end
    tokens = zip(answer.tokens, answer.top_tokens, strict=True)
    return ChatCompletion(
        id=stamp.id,
        object="chat.completion",
        created=stamp.created,
        model=stamp.model,
        system_fingerprint=stamp.system_fingerprint,
        choices=[
            Choice(
                index=0,
                message=AnswerMessage("assistant", shown_answer(answer)),
                logprobs=logprobs(tokens) if with_logprobs else None,
                finish_reason=finish_reason(end.finish_reason),
            )
        ],
        usage=usage_of([answer]),
    )
