"""The messages of a chat request as chat templates read them."""

from typing import Any

from msgspec import to_builtins

from tgi_router.http.chat_tools import ToolUse
from tgi_router.http.services import Services
from tgi_router.schema.chat import ChatRequest, Message
from tgi_router.text.conversation import Conversation
from tgi_router.text.tools.messages import template_messages
from tgi_router.text.tools.prompt import describe_tools
from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.refusal import refuse


def conversation(body: ChatRequest, tools: ToolUse | None, services: Services) -> Conversation:
    """What the template is given.

    A template that does not tell the model of its tools gets messages that do.

    Raises:
        ValidationError: there are no messages, too many, or one that cannot be used.
    """
    given = read_messages(body.messages, services.validator.limits)
    messages = template_messages(given, services.dialect.tool_format)
    if tools is not None and not services.template.reads_tools:
        messages = describe_tools(messages, tools.tools, body.tool_prompt)
    variables = dict(body.chat_template_kwargs or {})
    if body.reasoning_effort is not None:
        variables["reasoning_effort"] = body.reasoning_effort
    return Conversation(
        messages=messages,
        tools=tools.tools if tools else None,
        documents=body.documents,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
        template_kwargs=variables,
    )


def read_messages(messages: list[Message], limits: RequestLimits) -> list[dict[str, Any]]:
    """Messages in OpenAI's shape, without fields that are null.

    Raises:
        ValidationError: there are none, too many, or one that cannot be used.
    """
    if not messages:
        refuse("`messages` cannot be empty", "messages")
    if len(messages) > limits.max_messages:
        allowed = limits.max_messages
        refuse(f"`messages` supports up to {allowed} messages. Given: {len(messages)}", "messages")
    return [read_message(message, f"messages[{place}]") for place, message in enumerate(messages)]


def read_message(message: Message, at: str) -> dict[str, Any]:
    """One message in OpenAI's shape.

    Raises:
        ValidationError: it has neither content nor tool calls, or a part that is not text.
    """
    if message.content is None and not message.tool_calls:
        refuse(f"`{at}.content` must be a text", f"{at}.content")
    fields = {
        "role": message.role,
        # Templates add texts to it.
        "content": "" if message.content is None else read_content(message, at),
        "name": message.name,
        "tool_calls": to_builtins(message.tool_calls) if message.tool_calls else None,
        "tool_call_id": message.tool_call_id,
        "reasoning_content": message.reasoning_content or message.reasoning,
    }
    return {name: value for name, value in fields.items() if value is not None}


def read_content(message: Message, at: str) -> str | list[dict[str, str]]:
    """A message's content: a text, or parts that are.

    Raises:
        ValidationError: a part is not text.
    """
    content = message.content
    if not isinstance(content, list):
        return content or ""
    parts: list[dict[str, str]] = []
    for place, part in enumerate(content):
        if part.type != "text" or part.text is None:
            where = f"{at}.content[{place}]"
            refuse(f"`{where}` must be of type `text`, with a `text`: this model reads text only", where)
        parts.append({"type": "text", "text": part.text})
    return parts
