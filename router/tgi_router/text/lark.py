"""Writing grammars in Lark as llguidance reads it."""

import json
from collections.abc import Mapping

from llguidance import regex_to_lark

from tgi_router.generation import Grammar, GrammarKind

SpecialTokens = Mapping[str, int]
"""Ids of special tokens by their text. A grammar must name these: their text never matches."""


def as_lark(grammar: Grammar) -> str:
    """The same grammar in Lark."""
    match grammar.kind:
        case GrammarKind.JSON:
            return f"start: %json {grammar.source}\n"
        case GrammarKind.REGEX:
            return f"start: /{regex_to_lark(grammar.source)}/\n"
        case GrammarKind.LARK:
            return grammar.source


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
