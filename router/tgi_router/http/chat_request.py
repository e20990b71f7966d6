"""From the body of a chat request to a prompt, what is generated from it, and how the answer is read."""

from dataclasses import dataclass
from typing import Any

from tgi_router.http.chat_plan import ChatPlan
from tgi_router.http.chat_tools import read_tools
from tgi_router.http.openai import extensions, generation_parameters
from tgi_router.http.services import Services
from tgi_router.schema.chat import ChatRequest, Message
from tgi_router.text.answer_text import Everything
from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.refusal import refuse
from tgi_router.validation.request import UncheckedRequest


@dataclass(frozen=True, slots=True)
class ChatWork:
    """What a chat request comes to: a generation, and how its answers are read."""

    request: UncheckedRequest
    plan: ChatPlan


def plan_chat(services: Services, body: ChatRequest, choices: int) -> ChatWork:
    """Render the prompt and read what a body asks for. It takes milliseconds: not for the event loop.

    Raises:
        ValidationError: a field asks for what cannot be.
        TemplateError: the model's template refuses the messages.
    """
    limits = services.validator.limits
    check_fields(body)
    tools = read_tools(body, limits)
    if tools is not None:
        refuse("`tools` are not supported", "tools")
    if body.response_format not in (None, {"type": "text"}):
        refuse("`response_format` is not supported, except of type `text`", "response_format")
    prompt = services.template.render_chat(template_messages(body.messages, limits))
    parameters = generation_parameters(body, max_tokens(body))
    parameters.top_n_tokens = body.top_logprobs
    return ChatWork(
        # The template writes the special tokens.
        UncheckedRequest(prompt, parameters, extensions(body), add_special_tokens=False),
        ChatPlan(
            choices=choices,
            with_logprobs=bool(body.logprobs),
            shows_stops=bool(body.include_stop_str_in_output),
            shown_specials=Everything() if body.skip_special_tokens is False else (),
            splitter=None,
            parser=None,
        ),
    )


def check_fields(body: ChatRequest) -> None:
    """Refuse fields that contradict each other.

    Raises:
        ValidationError: naming one of them.
    """
    both = (body.max_tokens, body.max_completion_tokens)
    if None not in both and body.max_tokens != body.max_completion_tokens:
        refuse("`max_tokens` and `max_completion_tokens` must not differ", "max_completion_tokens")
    if body.top_logprobs and not body.logprobs:
        refuse("`top_logprobs` needs `logprobs` to be true", "top_logprobs")


def max_tokens(body: ChatRequest) -> int | None:
    """The number of tokens to generate at most, under the newer of its names or the older."""
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens


def template_messages(messages: list[Message], limits: RequestLimits) -> list[dict[str, Any]]:
    """Messages as templates read them: content as one text, no fields that are null.

    Raises:
        ValidationError: there are no messages, too many, or one that cannot be used.
    """
    if not messages:
        refuse("`messages` cannot be empty", "messages")
    if len(messages) > limits.max_messages:
        refuse(
            f"`messages` supports up to {limits.max_messages} messages. Given: {len(messages)}", "messages"
        )
    return [template_message(message, f"messages[{place}]") for place, message in enumerate(messages)]


def template_message(message: Message, at: str) -> dict[str, Any]:
    """One message as templates read it.

    Raises:
        ValidationError: it has neither content nor tool calls, or a part that is not text.
    """
    content = message.content
    if content is None and not message.tool_calls:
        refuse(f"`{at}.content` must be a text", f"{at}.content")
    if isinstance(content, list):
        for place, part in enumerate(content):
            if part.type != "text" or part.text is None:
                part_at = f"{at}.content[{place}]"
                refuse(
                    f"`{part_at}` must be of type `text`, with a `text`: this model reads text only", part_at
                )
        content = "".join(part.text or "" for part in content)
    fields = {
        "role": message.role,
        "content": content,
        "name": message.name,
        "tool_call_id": message.tool_call_id,
    }
    return {name: value for name, value in fields.items() if value is not None}
