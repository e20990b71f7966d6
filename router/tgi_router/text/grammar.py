"""Checks grammars at the door, so that the shards can follow every one that comes in."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from math import lcm
from random import Random

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark, is_lark_syntax

from tgi_common.grammar import (
    Grammar,
    GrammarError,
    GrammarKind,
    describe_error,
    parser_limits,
    to_llguidance,
)

# Clients send the same few grammars again and again.
_KEPT_VERDICTS = 128

# Steps of a text made up at random. What a grammar costs grows fastest in its first tokens.
_TRIED_BYTES = 32

# Tokens of words look further ahead than bytes do, so the shards allow a grammar several times as much.
_LIMITS_DIVISOR = 4

# Beyond it, numbers would be written out that no limit allows.
_MOST_PLACES = 20

_EMBEDDED_SCHEMA = re.compile(r"%json\s*(?=\{)")


@dataclass(frozen=True, slots=True)
class GrammarLimits:
    """What a grammar may be.

    Attributes:
        max_source_bytes: of its text in UTF-8.
        max_schema_depth: objects and arrays within each other in a JSON schema.
        max_properties: that one object of a JSON schema may name.
        max_regex_characters: of a regular expression.
        max_ebnf_bytes: of a grammar in EBNF, which takes time by the square of its length to be read.
        max_multiple: bound on the least common multiple of a schema's `multipleOf`, in units of its last
            digit; llguidance's time for these grows with it, and has no bound of its own.
    """

    max_source_bytes: int = 65_536
    max_schema_depth: int = 64
    max_properties: int = 500
    max_regex_characters: int = 4_096
    max_ebnf_bytes: int = 8_192
    max_multiple: int = 10_000


class GrammarChecker:
    """Says whether grammars can be followed. Takes some milliseconds for one, and lets go of the GIL.

    Attributes:
        check: the grammar of a kind and a source, EBNF in place of Lark read as such; raises GrammarError,
            naming what is wrong.
    """

    def __init__(self, vocabulary: LLTokenizer, limits: GrammarLimits) -> None:
        """Make a checker.

        Args:
            vocabulary: with the model's special tokens, as `byte_vocabulary` makes it.
            limits: what a grammar may be.
        """
        self._vocabulary = vocabulary
        self._limits = limits
        self.check: Callable[[GrammarKind, str], Grammar] = lru_cache(_KEPT_VERDICTS)(self._check)

    def _check(self, kind: GrammarKind, source: str) -> Grammar:
        check_size(kind, source, self._limits)
        if kind is GrammarKind.LARK and not is_lark_syntax(source):
            source = translate_ebnf(source, self._limits)
        for schema in read_schemas(kind, source):
            check_schema(schema, self._limits)
        grammar = Grammar(kind, source)
        matcher = LLMatcher(
            self._vocabulary, to_llguidance(grammar), log_level=0, limits=parser_limits(_LIMITS_DIVISOR)
        )
        try_out(matcher)
        if matcher.is_error():
            raise GrammarError(f"the {_NAMES[kind]} cannot be used: {describe_error(matcher.get_error())}")
        return grammar


_NAMES = {
    GrammarKind.JSON: "JSON schema",
    GrammarKind.REGEX: "regular expression",
    GrammarKind.LARK: "Lark grammar",
}


def check_size(kind: GrammarKind, source: str, limits: GrammarLimits) -> None:
    """Refuse what is empty or too long.

    Raises:
        GrammarError: with the size and the limit.
    """
    if not source:
        raise GrammarError(f"the {_NAMES[kind]} is empty")
    size = len(source.encode())
    if size > limits.max_source_bytes:
        raise GrammarError(
            f"the {_NAMES[kind]} has {size} bytes; at most {limits.max_source_bytes} are taken"
        )
    if kind is GrammarKind.REGEX and len(source) > limits.max_regex_characters:
        raise GrammarError(
            f"the regular expression has {len(source)} characters; at most {limits.max_regex_characters} "
            "are taken"
        )


def translate_ebnf(source: str, limits: GrammarLimits) -> str:
    """EBNF, as llama.cpp writes it with `root ::=`, in Lark's notation.

    Raises:
        GrammarError: it is too long, or is neither.
    """
    if len(source) > limits.max_ebnf_bytes:
        raise GrammarError(
            "the grammar has no Lark rule `start:`, and is too long for EBNF; "
            f"at most {limits.max_ebnf_bytes} bytes are taken"
        )
    try:
        return gbnf_to_lark(source)
    except Exception as error:  # llguidance's translator raises many kinds
        reason = describe_error(str(error))
        raise GrammarError(
            f"the grammar has no Lark rule `start:`, and cannot be read as EBNF: {reason}"
        ) from None


def read_schemas(kind: GrammarKind, source: str) -> Iterator[object]:
    """The JSON schemas of a grammar: itself, or those that a Lark grammar embeds.

    Raises:
        GrammarError: one is not JSON, or not an object.
    """
    if kind is GrammarKind.JSON:
        schema = _read_json(source.lstrip(), 0)
        if not isinstance(schema, dict):
            raise GrammarError(f"the JSON schema must be an object, not {type(schema).__name__}")
        yield schema
    elif kind is GrammarKind.LARK:
        for place in _EMBEDDED_SCHEMA.finditer(source):
            yield _read_json(source, place.end())


def _read_json(source: str, start: int) -> object:
    """The JSON value at a place; whatever follows it in a grammar is not read."""
    try:
        value, _ = json.JSONDecoder(parse_float=Decimal).raw_decode(source, start)
    except RecursionError:
        raise GrammarError("the JSON schema is nested too deeply") from None
    except ValueError as error:
        raise GrammarError(f"the JSON schema is not valid JSON: {error}") from None
    return value


def check_schema(schema: object, limits: GrammarLimits) -> None:
    """Refuse a schema that llguidance would take too long for.

    Raises:
        GrammarError: naming the limit.
    """
    multiples: list[Decimal] = []
    level, depth, count = [schema], 0, 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > limits.max_schema_depth:
            raise GrammarError(f"the JSON schema is nested more than {limits.max_schema_depth} levels deep")
        inner: list[object] = []
        for each in level:
            if isinstance(each, list):
                inner += each
                continue
            inner += each.values()
            if isinstance(multiple := each.get("multipleOf"), int | Decimal):
                multiples.append(Decimal(multiple))
            if isinstance(properties := each.get("properties"), dict):
                count = max(count, len(properties))
        level = inner
    if count > limits.max_properties:
        raise GrammarError(
            f"an object of the JSON schema has {count} properties; at most {limits.max_properties} are taken"
        )
    if common_multiple(multiples) > limits.max_multiple:
        raise GrammarError(
            "the least common multiple of the JSON schema's `multipleOf` must be at most "
            f"{limits.max_multiple}, decimal points left out"
        )


def common_multiple(numbers: list[Decimal]) -> int:
    """The least common multiple of positive numbers in units of their last decimal place; 1 of none.

    More than any limit, where they are too far apart to be written out.
    """
    if any(abs(number.adjusted()) > _MOST_PLACES for number in numbers):
        return sys.maxsize
    places = max((-int(number.as_tuple().exponent) for number in numbers), default=0)
    whole = [int(number.scaleb(places)) or 1 for number in numbers]
    return lcm(*whole)


def try_out(matcher: LLMatcher) -> None:
    """Make up the beginning of a text, or all of a short one; what goes wrong is left in the matcher."""
    random = Random(0)  # noqa: S311 - the same try for the same grammar
    for _ in range(_TRIED_BYTES):
        mask = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little"))
        if matcher.is_stopped() or not len(allowed):
            return
        matcher.consume_token(int(random.choice(allowed)))
