"""Chooses the notation in which a model writes calls of tools."""

from collections.abc import Iterator, Mapping
from typing import Any

from tgi_router.text.tools.formats import FORMAT_NAMES, FORMATS, ToolFormat, formats_named

DECLARATIONS = ("response_template", "response_schema")
"""Where tokenizer_config.json may describe the model's answers, for `parse_response` of transformers."""


class UnknownFormatError(ValueError):
    """No notation has the name that was asked for. The message is one line for the user."""


def choose_format(
    option: str | None, tokenizer_config: Mapping[str, Any], template: str | None
) -> ToolFormat:
    """The notation of calls: the option's, the one the checkpoint declares, its template's, or plain JSON.

    Args:
        option: a name of `FORMAT_NAMES`; None to find out.
        tokenizer_config: the content of tokenizer_config.json.
        template: the chat template's text.

    Raises:
        UnknownFormatError: the option is no such name.
    """
    if option is not None and option not in FORMAT_NAMES:
        raise UnknownFormatError(
            f"unknown tool call format {option!r}: must be one of {', '.join(FORMAT_NAMES)}"
        )
    candidates = FORMATS if option is None else formats_named(option)
    declared = "\n".join(text for key in DECLARATIONS for text in _texts(tokenizer_config.get(key)))
    for source in (declared, template or ""):
        for candidate in candidates:
            if candidate.taught_by(source):
                return candidate
    return candidates[-1]


def _texts(value: object) -> Iterator[str]:
    """All texts inside a JSON value; as patterns escape what is special to them, without backslashes."""
    todo = [value]
    while todo:
        match todo.pop():
            case str(text):
                yield text.replace("\\", "")
            case dict(mapping):
                todo.extend(mapping.values())
            case list(items):
                todo.extend(items)
