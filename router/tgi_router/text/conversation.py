"""What a chat template is given: messages, tools, documents, and how the prompt should end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tgi_router.text.content_format import ContentFormat

Message = Mapping[str, Any]

REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Names under which messages carry the reasoning before an answer; templates read the first."""

RESERVED_NAMES = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template"}
)


class TemplateError(Exception):
    """The messages cannot be rendered: HTTP 422."""

    error_type = "template_error"


@dataclass(frozen=True, slots=True)
class Conversation:
    """The inputs of one rendering. Their values are plain: what JSON can say.

    Attributes:
        messages: `role`, `content` (a text, or parts as OpenAI writes them) and what else the template reads.
        tools: JSON schemas of the functions that the model may call; None for no tools.
        documents: texts to answer from, usually with `title` and `text`; None for no documents.
        add_generation_prompt: whether to end with what begins an answer. None: yes, unless the last message
            is continued.
        continue_final_message: whether to leave the last message open, to be continued. A name stands for the
            field of the message, such as `reasoning_content`, that is left open. None: as TGI, if it is the
            assistant's and nothing was said about a generation prompt.
        template_kwargs: more variables for the template (`chat_template_kwargs`).
        template_name: which of the model's templates; None for the one that transformers would choose.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None = None
    documents: Sequence[Mapping[str, Any]] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    template_name: str | None = None

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            TemplateError: there are no messages, or two of the inputs contradict each other.
        """
        if not self.messages:
            raise TemplateError("there are no messages")
        for name in self.template_kwargs:
            if name in RESERVED_NAMES:
                raise TemplateError(f"`chat_template_kwargs` must not hold `{name}`, which has its own field")
        if self.continue_final_message and self.add_generation_prompt:
            raise TemplateError(
                "`continue_final_message` and `add_generation_prompt` exclude each other: "
                "the last message is continued, or a new one begins"
            )


def template_messages(messages: Sequence[Message], content_format: ContentFormat) -> list[dict[str, Any]]:
    """Messages as a template reads them: without nulls, reasoning under each of its names, content that fits.

    The first two are what `apply_chat_template` of transformers does.

    Raises:
        TemplateError: a part is no text, and the template reads only texts.
    """
    return [
        _fit_content(_name_reasoning(message), index, content_format)
        for index, message in enumerate(
            {name: value for name, value in message.items() if value is not None} for message in messages
        )
    ]


def _name_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    reasoning = next((message[name] for name in REASONING_FIELDS if name in message), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _fit_content(message: dict[str, Any], index: int, content_format: ContentFormat) -> dict[str, Any]:
    content = message.get("content")
    if content_format is ContentFormat.TEXT and isinstance(content, list):
        return {**message, "content": "".join(_text_of(part, index) for part in content)}
    if content_format is ContentFormat.PARTS and isinstance(content, str):
        return {**message, "content": [{"type": "text", "text": content}]}
    return message


def _text_of(part: Any, index: int) -> str:  # noqa: ANN401 - a part may be anything until it is looked at
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) else None
    if not isinstance(text, str):
        raise TemplateError(
            f"`messages[{index}].content` must be text: the model's chat template reads no other parts"
        )
    return text
