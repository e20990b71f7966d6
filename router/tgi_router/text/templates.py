"""Chat templates: turns messages into the prompt that the model was trained on.

Rendering is meant to equal `apply_chat_template` of transformers (utils/chat_template_utils.py): the same
sandbox, whitespace rules, filters and functions. Templates come with models, so they are not trusted.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from tgi_router.text.content_format import ContentFormat, content_format
from tgi_router.text.conversation import Conversation, TemplateError, template_messages

MAX_PROMPT_CHARACTERS = 16_000_000
"""Room for the largest body that the default payload limit lets in, several times over."""


class ChatTemplate:
    """A compiled chat template, with the special tokens that it may name. Safe to use from several threads.

    Args:
        source: the template's text; None for a model without one, whose chats are all refused.
        special_tokens: `bos_token`, `eos_token`, ... as text.
        max_characters: a prompt longer than this is refused.

    Attributes:
        source: the template's text; empty if there is none.
        reads_tools: whether the template tells the model of its tools.
        fault: why no chat can be rendered, if none can.
    """

    def __init__(
        self,
        source: str | None,
        special_tokens: Mapping[str, str],
        max_characters: int = MAX_PROMPT_CHARACTERS,
    ) -> None:
        self._special_tokens = dict(special_tokens)
        self._max_characters = max_characters
        self._template: jinja2.Template | None = None
        self._content_format = ContentFormat.TEXT
        self.source = source or ""
        self.reads_tools = False
        self.fault: str | None = None
        if source is None:
            self.fault = "template not found"
            return
        try:
            environment = _environment()
            tree = environment.parse(source)
            self._template = environment.from_string(source)
            self._content_format = content_format(tree)
            self.reads_tools = "tools" in find_undeclared_variables(tree)
        except jinja2.TemplateError as error:
            self.fault = f"the model's chat template is invalid: {error}"

    def render(self, conversation: Conversation) -> str:
        """The prompt for a conversation.

        Raises:
            TemplateError: the model has no usable template, or the template refuses the messages.
        """
        if self._template is None:
            raise TemplateError(self.fault)
        conversation.check()
        messages = template_messages(conversation.messages, self._content_format)
        continues = continues_last(conversation)
        prompt = self._generate(
            {
                **self._special_tokens,
                **conversation.template_kwargs,
                "messages": messages,
                "tools": conversation.tools or None,
                "documents": conversation.documents or None,
                "add_generation_prompt": not continues and conversation.add_generation_prompt is not False,
            }
        )
        return continue_final_message(prompt, messages[-1].get("content") or "") if continues else prompt

    def _generate(self, variables: Mapping[str, Any]) -> str:
        assert self._template is not None
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(variables):
                pieces.append(piece)
                length += len(piece)
                if length > self._max_characters:
                    raise TemplateError(f"the prompt is longer than {self._max_characters} characters")
        except TemplateError:
            raise
        except Exception as error:  # a template is code: whatever it trips over is an error of these messages
            raise TemplateError(str(error) or type(error).__name__) from None
        return "".join(pieces)


def continues_last(conversation: Conversation) -> bool:
    """Whether the last message is left open: as TGI does where it is the model's and nothing was said."""
    if conversation.continue_final_message is not None:
        return bool(conversation.continue_final_message)
    return conversation.add_generation_prompt is None and conversation.messages[-1]["role"] == "assistant"


def continue_final_message(prompt: str, content: str | list[Any]) -> str:
    """Cut a prompt right after the final message's content; whole if the template has changed the content."""
    if isinstance(content, list):
        content = next((part["text"] for part in reversed(content) if part.get("type") == "text"), "")
    place = prompt.rfind(content)
    return prompt[: place + len(content)].rstrip() if place >= 0 else prompt


class _GenerationBlocks(Extension):
    """Lets `{% generation %}...{% endgeneration %}`, a mark for training, through as its content."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(
            line
        )


class _SafeNamespace(Namespace):
    """A namespace without names that lead into Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - takes what `dict` takes
        self, *positional = args
        attributes = dict(*positional, **kwargs)
        for name in attributes:
            _refuse_internal(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401 - any value of a template
        _refuse_internal(name)
        super().__setitem__(name, value)


class _SafeDict:
    """`dict` for templates: its calls, none of the type's attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:  # noqa: ANN401 - takes what `dict` takes
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:  # noqa: ANN401 - as `dict.fromkeys`
        return dict.fromkeys(keys, value)


def _refuse_internal(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}: names must not begin with an underscore")


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any,  # noqa: ANN401 - any value of a template
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - the signature that templates call
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 - the signature that templates call
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=_strftime_now,
        dict=_SafeDict(),
        namespace=_SafeNamespace,
    )
    return environment
