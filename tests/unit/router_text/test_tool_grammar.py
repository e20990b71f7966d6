"""Grammars hold a model to calls of its tools, and leave it free where it may answer otherwise."""

import json
import random
from collections.abc import Sequence

import pytest

from support.grammar_tokens import ByteTokens
from tgi_router.text.tools.answer import parse_tool_calls
from tgi_router.text.tools.formats import (
    FORMATS,
    HERMES,
    JSON,
    LLAMA3_JSON,
    MISTRAL,
    MISTRAL_TAGGED,
    ToolFormat,
)
from tgi_router.text.tools.grammar import Tool, optional_calls, required_calls

MARKERS = ("<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]")
TEXT_ONLY = ByteTokens()
SPECIAL = ByteTokens(MARKERS)

WEATHER = Tool(
    "get_weather",
    {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "maximum": 9}},
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"city": {"type": "string", "maxLength": 8}},
    },
    strict=True,
)
NOW = Tool("now")
TOOLS = (WEATHER, NOW)
NAMES = [tool.name for tool in TOOLS]

vocabularies = pytest.mark.parametrize("tokens", [TEXT_ONLY, SPECIAL], ids=["as text", "as tokens"])
formats = pytest.mark.parametrize("tool_format", FORMATS, ids=lambda tool_format: tool_format.name)

ONE = {
    HERMES: '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call>',
    LLAMA3_JSON: '{"name": "get_weather", "parameters": {"city": "Rome"}}',
    MISTRAL: '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome"}}]',
    MISTRAL_TAGGED: '[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}',
    JSON: '{"name": "get_weather", "arguments": {"city": "Rome"}}',
}
TWO = {
    HERMES: f'{ONE[HERMES]}\n<tool_call>{{"name":"now","arguments":{{}}}}</tool_call>',
    LLAMA3_JSON: f'{ONE[LLAMA3_JSON]}; {{"name": "now", "parameters": {{}}}}',
    MISTRAL: f'{ONE[MISTRAL][:-1]}, {{"name": "now", "arguments": {{}}}}]',
    MISTRAL_TAGGED: f"{ONE[MISTRAL_TAGGED]}[TOOL_CALLS]now[ARGS]{{}}",
    JSON: f'[{ONE[JSON]}, {{"name": "now", "arguments": {{}}}}]',
}


def required(
    tool_format: ToolFormat, tokens: ByteTokens, tools: Sequence[Tool] = TOOLS, *, parallel: bool = True
) -> str:
    grammar = required_calls(tool_format, tools, parallel=parallel, special_tokens=tokens.special_tokens)
    assert tokens.fault(grammar) == ""
    return grammar


def optional(tool_format: ToolFormat, tokens: ByteTokens, *, parallel: bool = True) -> str:
    grammar = optional_calls(tool_format, TOOLS, parallel=parallel, special_tokens=tokens.special_tokens)
    assert grammar is not None
    assert tokens.fault(grammar) == ""
    return grammar


@formats
@vocabularies
def test_a_required_call_may_be_written_as_the_notation_has_it(
    tool_format: ToolFormat, tokens: ByteTokens
) -> None:
    grammar = required(tool_format, tokens)
    assert tokens.accepts(grammar, ONE[tool_format])
    assert tokens.accepts(grammar, TWO[tool_format])


@formats
@vocabularies
def test_nothing_else_may_be_written(tool_format: ToolFormat, tokens: ByteTokens) -> None:
    grammar = required(tool_format, tokens)
    one = ONE[tool_format]
    wrong = [
        "",
        "Hello",
        f"Hello {one}",
        f"{one} Hello",
        one.replace("get_weather", "rm"),
        one.replace('"city"', '"town"'),
        one.replace('"Rome"', "7"),
        one.replace('"Rome"', '"Rome", "days": 10'),
        one.replace("get_weather", "now"),
        one[:-1],
    ]
    assert [text for text in wrong if tokens.accepts(grammar, text)] == []


@formats
@vocabularies
def test_without_parallel_calls_there_is_one(tool_format: ToolFormat, tokens: ByteTokens) -> None:
    grammar = required(tool_format, tokens, parallel=False)
    assert tokens.accepts(grammar, ONE[tool_format])
    assert not tokens.accepts(grammar, TWO[tool_format])


@formats
def test_a_named_tool_is_the_only_one(tool_format: ToolFormat) -> None:
    grammar = required(tool_format, TEXT_ONLY, [NOW])
    assert not TEXT_ONLY.accepts(grammar, ONE[tool_format])


@formats
@vocabularies
def test_what_a_grammar_leads_to_reads_as_calls_with_valid_arguments(
    tool_format: ToolFormat, tokens: ByteTokens
) -> None:
    grammar = required(tool_format, tokens)
    for seed in range(5):
        text = tokens.sample(grammar, random.Random(seed))
        assert text is not None
        answer = parse_tool_calls(text, tool_format, NAMES)
        assert answer.content is None
        assert answer.calls
        for call in answer.calls:
            arguments = json.loads(call.arguments)
            assert call.name == "now" or 0 <= len(arguments["city"]) <= 8


@formats
@vocabularies
def test_an_optional_call_is_held_to_the_schema_and_text_is_free(
    tool_format: ToolFormat, tokens: ByteTokens
) -> None:
    grammar = optional(tool_format, tokens)
    right = ["", "Hello, [you] {there}!\n\nBye\n", "\nHello", ONE[tool_format], TWO[tool_format]]
    assert [text for text in right if not tokens.accepts(grammar, text)] == []
    wrong = [
        ONE[tool_format].replace("get_weather", "rm"),
        ONE[tool_format].replace('"city"', '"town"'),
        ONE[tool_format].replace('"Rome"', "7"),
        f"{ONE[tool_format]} and so",
    ]
    assert [text for text in wrong if tokens.accepts(grammar, text)] == []
    assert not tokens.accepts(optional(tool_format, tokens, parallel=False), TWO[tool_format])


@pytest.mark.parametrize("tool_format", [HERMES, MISTRAL, MISTRAL_TAGGED], ids=lambda each: each.name)
@vocabularies
def test_text_may_go_over_to_calls_where_a_marker_tells_them(
    tool_format: ToolFormat, tokens: ByteTokens
) -> None:
    grammar = optional(tool_format, tokens)
    assert tokens.accepts(grammar, f"Let me see.\n{TWO[tool_format]}")
    assert not tokens.accepts(grammar, f"Let me see.\n{ONE[tool_format].replace('Rome', 'a longer name')}")


def test_a_marker_that_is_a_token_may_stand_before_bare_calls() -> None:
    grammar = optional(LLAMA3_JSON, SPECIAL)
    assert SPECIAL.accepts(grammar, f"<|python_tag|>{TWO[LLAMA3_JSON]}")


def test_without_a_strict_tool_an_optional_call_is_free() -> None:
    assert optional_calls(HERMES, [NOW], parallel=True, special_tokens={}) is None


def test_a_tool_that_is_not_strict_may_have_a_schema_that_cannot_be_enforced_in_full() -> None:
    parameters = {"properties": {"at": {"type": "string", "format": "no-such-format"}}}
    lenient, strict = (
        required_calls(HERMES, [Tool("f", parameters, strict=strict)], parallel=True, special_tokens={})
        for strict in (False, True)
    )
    assert TEXT_ONLY.fault(lenient) == ""
    assert "no-such-format" in TEXT_ONLY.fault(strict)


def test_whitespace_in_calls_is_bounded() -> None:
    grammar = required(JSON, TEXT_ONLY)
    call = '{"name": "get_weather", "arguments": {"city":%s"Rome"}}'
    assert TEXT_ONLY.accepts(grammar, call % ("\n" + " " * 8))
    assert not TEXT_ONLY.accepts(grammar, call % (" " * 50))


def test_names_are_written_as_json_and_lark_want_them() -> None:
    tool = Tool('a"b\\c/é')
    grammar = required(JSON, TEXT_ONLY, [tool])
    text = json.dumps({"name": tool.name, "arguments": {}}, ensure_ascii=False)
    assert TEXT_ONLY.accepts(grammar, text)
    assert parse_tool_calls(text, JSON, [tool.name]).calls[0].name == tool.name
