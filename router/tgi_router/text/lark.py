"""Writing grammars in Lark as llguidance reads it."""

import json
from collections.abc import Mapping
from typing import Any

from llguidance import regex_to_lark

from tgi_common.grammar import JSON_SPACE, Grammar, GrammarError, GrammarKind

SpecialTokens = Mapping[str, int]
"""Ids of special tokens by their text. A grammar must name these: their text never matches."""


def as_lark(grammar: Grammar) -> str:
    """The same grammar in Lark.

    Raises:
        GrammarError: a JSON schema that is not JSON, or not an object.
    """
    match grammar.kind:
        case GrammarKind.JSON:
            return f"start: {json_value(read_schema(grammar.source))}\n"
        case GrammarKind.REGEX:
            return f"start: /{regex_to_lark(grammar.source)}/\n"
        case GrammarKind.LARK:
            return grammar.source


def json_value(schema: Mapping[str, Any], *, lenient: bool = False) -> str:
    """A JSON text that has to stand there.

    Args:
        schema: what it must match.
        lenient: parts of the schema that cannot be enforced are passed over.
    """
    options = {"whitespace_pattern": JSON_SPACE, "lenient": lenient}
    return f"%json {json.dumps({**schema, 'x-guidance': options}, ensure_ascii=False)}"


def read_schema(source: str) -> dict[str, Any]:
    """A JSON schema from its text.

    Raises:
        GrammarError: it is not JSON, or not an object.
    """
    try:
        schema = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"the JSON schema is not valid JSON: {error}") from None
    if not isinstance(schema, dict):
        raise GrammarError(f"the JSON schema must be an object, not {type(schema).__name__}")
    return schema


def literal(text: str) -> str:
    """A text that has to stand there."""
    return json.dumps(text, ensure_ascii=False)


def marker(text: str, special_tokens: SpecialTokens) -> str:
    """A marker that has to stand there: as a token if it is a special one, otherwise as text."""
    return f"<[{special_tokens[text]}]>" if text in special_tokens else literal(text)


def text_up_to(name: str, text: str, special_tokens: SpecialTokens) -> str:
    """A rule of this name: any text, up to a marker and with it. It needs the terminal of `ANY_TEXT`."""
    if text in special_tokens:
        return f"{name}: TEXT? {marker(text, special_tokens)}"
    return f"{name}[lazy]: TEXT {literal(text)}"


ANY_TEXT = r"TEXT: /(.|\n)*/"
