"""Chat templates: turns messages into the prompt that the model was trained on.

Rendering is meant to equal `apply_chat_template` of transformers (utils/chat_template_utils.py): the same
sandbox, whitespace rules, filters and functions. Templates come with models, so they are not trusted.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_PROMPT_CHARACTERS = 16_000_000
"""Room for the largest body that the default payload limit lets in, several times over."""

Message = Mapping[str, Any]


class TemplateError(Exception):
    """The messages cannot be rendered: HTTP 422."""

    error_type = "template_error"


class ChatTemplate:
    """A compiled chat template, with the special tokens that it may name. Safe to use from several threads.

    Args:
        source: the template's text; None for a model without one, whose chats are all refused.
        special_tokens: `bos_token`, `eos_token`, ... as text.
        max_characters: a prompt longer than this is refused.
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
        self.fault: str | None = None
        """Why no chat can be rendered, if none can."""
        if source is None:
            self.fault = "template not found"
            return
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            self.fault = f"the model's chat template is invalid: {error}"

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt for a conversation.

        Raises:
            TemplateError: the model has no usable template, or the template refuses the messages.
        """
        if self._template is None:
            raise TemplateError(self.fault)
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(
                **self._special_tokens,
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
            ):
                pieces.append(piece)
                length += len(piece)
                if length > self._max_characters:
                    raise TemplateError(f"the prompt is longer than {self._max_characters} characters")
        except TemplateError:
            raise
        except Exception as error:  # a template is code: whatever it trips over is an error of these messages
            raise TemplateError(str(error) or type(error).__name__) from None
        return "".join(pieces)

    def render_chat(self, messages: Sequence[Message]) -> str:
        """The prompt that makes the model answer, or go on with its own last message, as TGI does.

        Raises:
            TemplateError: as `render`.
        """
        prompt = self.render(messages)
        if messages and messages[-1]["role"] == "assistant":
            return continue_final_message(prompt, messages[-1].get("content") or "")
        return prompt


def continue_final_message(prompt: str, content: str) -> str:
    """Cut a prompt right after the final message's content; whole if the template has changed the content."""
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
