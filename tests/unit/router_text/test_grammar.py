"""Grammars at the door: what is let in, and the reason for which the rest is not."""

import json

import pytest

from support.byte_tokenizer import byte_tokenizer
from tgi_common.grammar import Grammar, GrammarError, GrammarKind
from tgi_router.text.byte_vocabulary import byte_vocabulary
from tgi_router.text.grammar import GrammarChecker, GrammarLimits
from tgi_router.text.tokenizer import PromptTokenizer

JSON, REGEX, LARK = GrammarKind.JSON, GrammarKind.REGEX, GrammarKind.LARK


@pytest.fixture(scope="module")
def checker() -> GrammarChecker:
    return GrammarChecker(byte_vocabulary({7: "<tool>"}, 5000), GrammarLimits())


def nested(depth: int) -> str:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return json.dumps(schema)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (JSON, '{"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 5}}}'),
        (JSON, '{"type": "number", "multipleOf": 0.01}'),
        (JSON, "{}"),
        (JSON, '\n {"type": "null"}\n'),
        (JSON, nested(31)),
        (JSON, json.dumps({"enum": [f"choice {number}" for number in range(2000)]})),
        (JSON, json.dumps({"properties": {f"p{number}": {"type": "string"} for number in range(400)}})),
        (JSON, '{"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}'),
        (REGEX, r"^\w{1,40}@[a-z]+\.(com|org)$"),
        (REGEX, "a{4000}"),
        (LARK, 'start: "a" | <tool> /[a-z]+/ <[4999]>'),
        (LARK, 'start: <tool> call\ncall: %json {"type": "object"}'),
    ],
)
def test_what_can_be_followed_is_let_in(checker: GrammarChecker, kind: GrammarKind, source: str) -> None:
    assert checker.check(kind, source) == Grammar(kind, source)


@pytest.mark.parametrize(
    ("kind", "source", "reason"),
    [
        (JSON, "", "is empty"),
        (JSON, "{", "not valid JSON"),
        (JSON, '{"type": "object"} and more', "cannot be read"),
        (JSON, "[1]", "must be an object, not list"),
        (JSON, "true", "must be an object, not bool"),
        (JSON, '{"not": {"type": "null"}}', '"not"'),
        (JSON, '{"type": "array", "uniqueItems": true}', "uniqueItems"),
        (JSON, '{"type": "strnig"}', "strnig"),
        (JSON, '{"type": "integer", "minimum": 5, "maximum": 3}', "minimum"),
        (JSON, '{"$ref": "https://example.com/schema"}', "example.com"),
        (JSON, nested(33), "64 levels deep"),
        (JSON, "[" * 20_000, "nested too deeply"),
        (JSON, '{"const": "' + "x" * 70_000 + '"}', "70013 bytes; at most 65536"),
        (REGEX, "a(b", "unclosed group"),
        (REGEX, r"(a)\1", "backreferences"),
        (REGEX, "(?=a)b", "look-around"),
        (REGEX, r"[^\x00-\U0010FFFF]", "no text can match"),
        (REGEX, "a" * 4097, "4097 characters; at most 4096"),
        (LARK, 'start: "a" b', "b"),
        (LARK, "start: <no_such_tool>", "no_such_tool"),
        (LARK, 'start: %json {"not": {}}', "not"),
        (LARK, "start: %json {", "not valid JSON"),
        (LARK, "neither this nor that", "no Lark rule `start:`"),
        (LARK, 'a ::= "b"', "root"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(
    checker: GrammarChecker, kind: GrammarKind, source: str, reason: str
) -> None:
    with pytest.raises(GrammarError) as caught:
        checker.check(kind, source)
    message = str(caught.value)
    assert reason in message
    assert "\n" not in message
    assert len(message) < 450


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (JSON, '{"type": "integer", "multipleOf": 999983}'),
        (JSON, '{"allOf": [{"type": "integer", "multipleOf": 997}, {"multipleOf": 991}]}'),
        (JSON, '{"type": "number", "multipleOf": 1e-999999}'),
        (JSON, '{"type": "number", "multipleOf": 0.0999983}'),
        (LARK, 'start: %json {"type": "integer", "multiple\\u004ff": 999983}'),
        (JSON, json.dumps({"properties": {f"p{number}": {} for number in range(2500)}})),
        (JSON, json.dumps({"allOf": [{"anyOf": [{"minimum": i * j} for j in range(8)]} for i in range(8)]})),
        (REGEX, r"(\p{L}{1,500}\p{N}?){1,300}"),
        (LARK, "start: A\nA: /(.*a.{15})/ & /(.*b.{16})/ & ~/(.*c.{17})/"),
        (LARK, "\n".join(f"r{number} ::= r{number + 1}" for number in range(2000))),
    ],
)
def test_what_would_cost_too_much_is_refused(checker: GrammarChecker, kind: GrammarKind, source: str) -> None:
    # Without a bound, several of these take minutes or gigabytes.
    with pytest.raises(GrammarError):
        checker.check(kind, source)


def test_ebnf_becomes_lark(checker: GrammarChecker) -> None:
    grammar = checker.check(LARK, 'root ::= "yes" | no-word\nno-word ::= "no"')
    assert grammar.kind is LARK
    assert "start:" in grammar.source
    assert checker.check(LARK, grammar.source) == grammar


def test_a_grammar_may_name_the_special_tokens_of_the_model() -> None:
    tokenizer = PromptTokenizer(byte_tokenizer())
    assert tokenizer.special_tokens() == {256: "<s>"}
    checker = GrammarChecker(byte_vocabulary(tokenizer.special_tokens(), tokenizer.size), GrammarLimits())
    assert checker.check(LARK, 'start: <s> "a"').kind is LARK
    with pytest.raises(GrammarError, match="tool"):
        checker.check(LARK, 'start: <tool> "a"')
