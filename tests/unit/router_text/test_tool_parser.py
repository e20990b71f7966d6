"""Calls of tools are told from text in every notation, in whatever pieces the answer comes."""

import json
import random
import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgi_router.text.pieces import ArgumentsDelta, CallStart, ContentDelta, ToolPiece
from tgi_router.text.tools import parser as parser_module
from tgi_router.text.tools.answer import ToolAnswer, gather, parse_tool_calls
from tgi_router.text.tools.formats import (
    FORMATS,
    HERMES,
    JSON,
    LLAMA3_JSON,
    MISTRAL,
    MISTRAL_TAGGED,
    ToolFormat,
)
from tgi_router.text.tools.parser import ToolCallParser, new_call_id

NAMES = ("get_weather", "now", "größe")
Calls = list[tuple[str, str]]

PARIS = '{"city": "Paris"}'
ROME = '{"city": "Rome", "deep": {"list": [1, {"a": "}{]["}]}}'

ANSWERS: list[tuple[ToolFormat, str, str | None, Calls]] = [
    # One call, as the notation has it
    (
        HERMES,
        f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>',
        None,
        [("get_weather", PARIS)],
    ),
    (LLAMA3_JSON, f'{{"name": "get_weather", "parameters": {PARIS}}}', None, [("get_weather", PARIS)]),
    (
        LLAMA3_JSON,
        f'<|python_tag|>{{"name": "get_weather", "parameters": {PARIS}}}',
        None,
        [("get_weather", PARIS)],
    ),
    (
        MISTRAL,
        f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}]',
        None,
        [("get_weather", PARIS)],
    ),
    (MISTRAL_TAGGED, f"[TOOL_CALLS]get_weather[ARGS]{PARIS}", None, [("get_weather", PARIS)]),
    (
        MISTRAL_TAGGED,
        f"[TOOL_CALLS]get_weather[CALL_ID]a1B2c3D4e[ARGS]{PARIS}",
        None,
        [("get_weather", PARIS)],
    ),
    (MISTRAL_TAGGED, f"[TOOL_CALLS]get_weather{PARIS}", None, [("get_weather", PARIS)]),
    (JSON, f'{{"name": "get_weather", "arguments": {PARIS}}}', None, [("get_weather", PARIS)]),
    (JSON, f' \n{{"name":"get_weather","arguments":{PARIS}}}\n', None, [("get_weather", PARIS)]),
    # Several
    (
        HERMES,
        f'<tool_call>{{"name": "get_weather", "arguments": {PARIS}}}</tool_call>\n'
        f'<tool_call>{{"name": "get_weather", "arguments": {ROME}}}</tool_call>',
        None,
        [("get_weather", PARIS), ("get_weather", ROME)],
    ),
    (
        HERMES,
        f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n'
        '{"name": "now", "arguments": {}}\n</tool_call>',
        None,
        [("get_weather", PARIS), ("now", "{}")],
    ),
    (
        LLAMA3_JSON,
        f'{{"name": "get_weather", "parameters": {PARIS}}}; {{"name": "now", "parameters": {{}}}}',
        None,
        [("get_weather", PARIS), ("now", "{}")],
    ),
    (
        MISTRAL,
        f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {PARIS}}}, '
        '{"name": "now", "arguments": {}}]',
        None,
        [("get_weather", PARIS), ("now", "{}")],
    ),
    (
        MISTRAL,
        f"[TOOL_CALLS]get_weather[ARGS]{PARIS}[TOOL_CALLS]now[ARGS]{{}}",
        None,
        [("get_weather", PARIS), ("now", "{}")],
    ),
    (
        JSON,
        f'[{{"name": "get_weather", "arguments": {PARIS}}},\n {{"name": "now", "arguments": {{}}}}]',
        None,
        [("get_weather", PARIS), ("now", "{}")],
    ),
    # Text before and after
    (
        HERMES,
        'Let me see.\n\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n',
        "Let me see.",
        [("now", "{}")],
    ),
    (
        HERMES,
        'One\n<tool_call>{"name": "now", "arguments": {}}</tool_call>\n\n two ',
        "One\ntwo ",
        [("now", "{}")],
    ),
    (LLAMA3_JSON, 'So: <|python_tag|>{"name": "now", "parameters": {}}', "So:", [("now", "{}")]),
    (LLAMA3_JSON, '{"name": "now", "parameters": {}} done', "done", [("now", "{}")]),
    (MISTRAL, 'So [TOOL_CALLS][{"name": "now", "arguments": {}}]', "So", [("now", "{}")]),
    (JSON, 'So {"name": "now", "arguments": {}}', 'So {"name": "now", "arguments": {}}', []),
    # No calls
    (HERMES, "", "", []),
    (HERMES, "  Hello <tool> </tool_call>\n", "  Hello <tool> </tool_call>\n", []),
    (HERMES, "a <tool_call", "a <tool_call", []),
    (HERMES, " \n ", " \n ", []),
    (LLAMA3_JSON, '{"a": 1}', '{"a": 1}', []),
    (LLAMA3_JSON, "[1, 2]", "[1, 2]", []),
    (LLAMA3_JSON, "[]", "[]", []),
    (JSON, " \n{", " \n{", []),
    (JSON, '"name"', '"name"', []),
    # Order of keys, other keys, no arguments
    (
        HERMES,
        f'<tool_call>{{"arguments": {PARIS}, "name": "get_weather"}}</tool_call>',
        None,
        [("get_weather", PARIS)],
    ),
    (
        LLAMA3_JSON,
        f'{{"type": "function", "name": "get_weather", "strict": true, "parameters": {PARIS}, "id": 12}}',
        None,
        [("get_weather", PARIS)],
    ),
    (HERMES, '<tool_call>{"name": "now"}</tool_call>', None, [("now", "{}")]),
    (
        HERMES,
        f'<tool_call>{{"name": "get_weather", "parameters": {PARIS}}}</tool_call>',
        None,
        [("get_weather", PARIS)],
    ),
    # Escapes
    (
        HERMES,
        r'<tool_call>{"n\u0061me": "gr\u00f6\u00dfe", "arguments": {"a": "\\\"}", "b": "\u00e9日本"}}'
        "</tool_call>",
        None,
        [("größe", r'{"a": "\\\"}", "b": "\u00e9日本"}')],
    ),
    # Markers inside of arguments
    (
        HERMES,
        '<tool_call>{"name": "now", "arguments": {"a": "</tool_call><tool_call>"}}</tool_call>',
        None,
        [("now", '{"a": "</tool_call><tool_call>"}')],
    ),
    # Malformed, or no tool
    (HERMES, "<tool_call>\nnow\n</tool_call>", "<tool_call>\nnow\n</tool_call>", []),
    (HERMES, '<tool_call>{"name": 7}</tool_call>', '<tool_call>{"name": 7}</tool_call>', []),
    (HERMES, '<tool_call>{"name" "now"}</tool_call>', '<tool_call>{"name" "now"}</tool_call>', []),
    (HERMES, '<tool_call>{"arguments": {}}</tool_call>', '<tool_call>{"arguments": {}}</tool_call>', []),
    (HERMES, '<tool_call>{"arguments": [}, "name', '<tool_call>{"arguments": [}, "name', []),
    (HERMES, r'<tool_call>{"name": "\x"}', r'<tool_call>{"name": "\x"}', []),
    (
        HERMES,
        '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
        [],
    ),
    (
        HERMES,
        '<tool_call>\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
        "<tool_call>",
        [("now", "{}")],
    ),
    (
        MISTRAL,
        '[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "rm", "arguments": {}}]',
        '{"name": "rm", "arguments": {}}]',
        [("now", "{}")],
    ),
    (MISTRAL, "[TOOL_CALLS]rm[ARGS]{}", "[TOOL_CALLS]rm[ARGS]{}", []),
    (MISTRAL, "[TOOL_CALLS]now\n{}", "[TOOL_CALLS]now\n{}", []),
    (MISTRAL, "[TOOL_CALLS] []", "[TOOL_CALLS] []", []),
    (JSON, '{"name": "rm", "arguments": {}}', '{"name": "rm", "arguments": {}}', []),
    # Malformed, or cut off, after the name: a call with what came
    (HERMES, '<tool_call>{"name": "now", "argum', None, [("now", "")]),
    (HERMES, '<tool_call>{"name": "now", "arguments": {"a": [1', None, [("now", '{"a": [1')]),
    (HERMES, '<tool_call>{"name": "now", "arguments": {"a": 1}</tool_call>', None, [("now", '{"a": 1}')]),
    (HERMES, '<tool_call>{"name": "now", "arguments": {"a": 1}}\n</tool_ca', None, [("now", '{"a": 1}')]),
    (HERMES, '<tool_call>{"name": "now", "arguments": {"a": [1}}', "}}", [("now", '{"a": [1')]),
    (
        HERMES,
        '<tool_call>{"name": "now", "arguments": {}}\n<tool_call>{"name": "now"}</tool_call>',
        None,
        [("now", "{}"), ("now", "{}")],
    ),
    (MISTRAL, "[TOOL_CALLS]now[ARGS]{", None, [("now", "{")]),
    (MISTRAL, '[TOOL_CALLS][{"name": "now", "arguments": {}},', None, [("now", "{}")]),
    # Arguments that are no object pass as they are
    (HERMES, '<tool_call>{"name": "now", "arguments": null}</tool_call>', None, [("now", "null")]),
    (HERMES, r'<tool_call>{"name": "now", "arguments": "{\"a\": 1}"}', None, [("now", r'"{\"a\": 1}"')]),
]

answers = pytest.mark.parametrize(
    ("tool_format", "text", "content", "calls"),
    ANSWERS,
    ids=[f"{index}-{answer[0].name}" for index, answer in enumerate(ANSWERS)],
)


def said(answer: ToolAnswer) -> tuple[str | None, Calls]:
    return answer.content, [(call.name, call.arguments) for call in answer.calls]


def read(tool_format: ToolFormat, parts: Iterable[str]) -> list[ToolPiece]:
    parser = ToolCallParser(tool_format, NAMES)
    return [piece for part in parts for piece in parser.push(part)] + parser.finish()


@answers
def test_an_answer_is_told_apart(
    tool_format: ToolFormat, text: str, content: str | None, calls: Calls
) -> None:
    assert said(parse_tool_calls(text, tool_format, NAMES)) == (content, calls)


@answers
def test_it_does_not_matter_where_an_answer_is_cut(
    tool_format: ToolFormat, text: str, content: str | None, calls: Calls
) -> None:
    for place in range(len(text) + 1):
        assert said(gather(read(tool_format, [text[:place], text[place:]]))) == (content, calls), place
    assert said(gather(read(tool_format, text))) == (content, calls)


def cut(text: str, places: list[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:stop] for start, stop in pairwise(bounds)]


FRAGMENTS = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
        *('{"name": "now", "arguments": {}}', '{"arguments": {"a": 1}, "name": "now"}', '"name"', '"now"'),
        *("{", "}", "[", "]", '"', ":", ",", ";", "\\", " ", "\n", "<", "now", "text", "1"),
    ]
)


@settings(max_examples=500)
@given(
    tool_format=st.sampled_from(FORMATS),
    fragments=st.lists(FRAGMENTS, max_size=12),
    places=st.lists(st.integers(0, 10_000), max_size=6),
)
def test_anything_at_all_reads_the_same_however_it_is_cut(
    tool_format: ToolFormat, fragments: list[str], places: list[int]
) -> None:
    text = "".join(fragments)
    assert said(gather(read(tool_format, cut(text, places)))) == said(gather(read(tool_format, [text])))


@settings(max_examples=300)
@given(tool_format=st.sampled_from(FORMATS), fragments=st.lists(FRAGMENTS, max_size=12))
def test_an_answer_without_calls_is_given_back_to_the_letter(
    tool_format: ToolFormat, fragments: list[str]
) -> None:
    text = "".join(fragments)
    answer = parse_tool_calls(text, tool_format, ["no_such_tool"])
    assert (answer.content, answer.calls) == (text, ())


def test_text_passes_at_once_until_it_may_begin_a_marker() -> None:
    parser = ToolCallParser(HERMES, NAMES)
    assert [parser.push(part) for part in ("Hello", " you", " <", "b>")] == [
        [ContentDelta("Hello")],
        [ContentDelta(" you")],
        [],
        [ContentDelta(" <b>")],
    ]


def test_a_call_begins_with_its_name_and_goes_on_with_fragments_of_its_arguments() -> None:
    parser = ToolCallParser(HERMES, NAMES)
    pieces = [
        parser.push(part)
        for part in ("<tool_call>\n", '{"name": "no', 'w"', ', "arguments": {"a"', ": 1}", "}\n</tool_call>")
    ]
    assert pieces[:2] == [[], []]
    [start] = pieces[2]
    assert isinstance(start, CallStart)
    assert (start.index, start.name) == (0, "now")
    assert pieces[3:] == [[ArgumentsDelta(0, '{"a"')], [ArgumentsDelta(0, ": 1}")], []]
    assert parser.finish() == []


def test_arguments_that_come_before_the_name_wait_for_it() -> None:
    parser = ToolCallParser(HERMES, NAMES)
    assert parser.push('<tool_call>{"arguments": {"a": 1}, "name": ') == []
    start, arguments = parser.push('"now"')
    assert isinstance(start, CallStart)
    assert arguments == ArgumentsDelta(0, '{"a": 1}')


def test_what_is_held_back_for_a_late_name_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser_module, "MAX_HELD_CHARACTERS", 100)
    text = '<tool_call>{"arguments": {"a": "' + "x" * 100 + '"}, "name": "now"}</tool_call>'
    for parts in ([text], list(text)):
        assert said(gather(read(HERMES, parts))) == (text, [])


@pytest.mark.parametrize("text", ['<tool_call>{"' + "k" * 5_000, "[TOOL_CALLS]" + "n" * 5_000])
def test_a_name_is_not_waited_for_without_end(text: str) -> None:
    for tool_format in (HERMES, MISTRAL):
        parser = ToolCallParser(tool_format, NAMES)
        shown = gather([piece for character in text for piece in parser.push(character)])
        assert shown.content == text


def test_whitespace_before_a_marker_is_held_back_within_bounds() -> None:
    space = "\n" * 1_000
    parser = ToolCallParser(HERMES, NAMES)
    shown = gather(parser.push("a" + space)).content or ""
    assert 900 < len(shown) < 1_001
    assert shown + (gather(parser.finish()).content or "") == "a" + space


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda tool_format: tool_format.name)
def test_ids_are_unique_and_of_the_form_that_templates_accept(tool_format: ToolFormat) -> None:
    ids = {new_call_id(tool_format) for _ in range(100)}
    assert len(ids) == 100
    form = r"[A-Za-z0-9]{9}" if tool_format.name.startswith("mistral") else r"call_[A-Za-z0-9]{24}"
    assert all(re.fullmatch(form, call_id) for call_id in ids)


def test_long_answers_are_read_in_pieces_of_any_size() -> None:
    source = random.Random(1)
    value = "".join(source.choice('abc{}[]"\\ \n<é') for _ in range(20_000))
    arguments = json.dumps({"text": value}, ensure_ascii=False)
    text = f'Text <tool_call>{{"name": "now", "arguments": {arguments}}}</tool_call>'
    for size in (1, 7, len(text)):
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        assert said(gather(read(HERMES, parts))) == ("Text", [("now", arguments)])
