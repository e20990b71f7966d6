"""Grammars as router and shard share them: their notations, and what llguidance may spend on one."""

import re
from dataclasses import dataclass
from enum import StrEnum

from llguidance import LLMatcher, LLParserLimits

JSON_SPACE = r"[\x20\x09\x0A\x0D]{1,20}"
"""Whitespace between the parts of a JSON text: room for indentation, none for a model to go on for ever."""

_LONGEST_REASON = 300
_QUOTED_LINE = re.compile(r"\n\s*\d+ \|")


class GrammarError(ValueError):
    """A grammar that cannot be used. The message names what is wrong."""


class GrammarKind(StrEnum):
    """The notations that a grammar may be written in."""

    JSON = "json"
    """A JSON schema, as JSON."""
    REGEX = "regex"
    LARK = "lark"
    """Lark's notation as llguidance reads it, with `%json`, `%regex` and special tokens."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a text must match."""

    kind: GrammarKind
    source: str


def to_llguidance(grammar: Grammar) -> str:
    """The grammar as llguidance takes it; whether it makes sense shows only when it is compiled.

    Raises:
        GrammarError: a JSON schema that is not JSON, or not an object.
    """
    if grammar.kind is GrammarKind.REGEX:
        return LLMatcher.grammar_from_regex(grammar.source)
    if grammar.kind is GrammarKind.LARK:
        return LLMatcher.grammar_from_lark(grammar.source)
    try:
        return LLMatcher.grammar_from_json_schema(
            grammar.source, overrides={"whitespace_pattern": JSON_SPACE}
        )
    except ValueError as error:
        raise GrammarError(f"the JSON schema cannot be read: {error}") from None


def parser_limits(divisor: int = 1) -> LLParserLimits:
    """The most that one grammar may cost: some 20 ms to compile, 15 ms and 50 MB in a step.

    Real grammars stay a hundred times below. Tokens of many bytes look further ahead than single bytes do:
    whoever tries a grammar with bytes in place of the model's vocabulary divides the limits.
    """
    return LLParserLimits(
        initial_lexer_fuel=800_000 // divisor,
        step_lexer_fuel=200_000 // divisor,
        step_max_items=50_000 // divisor,
        max_items_in_row=12_000 // divisor,
        max_lexer_states=50_000 // divisor,
        max_grammar_size=200_000 // divisor,
        # It would run large regexes over the vocabulary in advance, which takes longer than any mask.
        precompute_large_lexemes=False,
        verbose_errors=False,
    )


def describe_error(message: str) -> str:
    """What llguidance says, in one line of bounded length, without the lines that quote the grammar."""
    reason = " ".join(_QUOTED_LINE.split(message)[0].replace("<non-verbose/>", "").split())
    if reason in ("", "NoExtensionBias"):
        return "no text can match it"
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "…"
