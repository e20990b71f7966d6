"""The forms in which grammars are written in requests."""

import json

import pytest

from tgi_common.grammar import GrammarError, GrammarKind
from tgi_router.text.byte_vocabulary import byte_vocabulary
from tgi_router.text.grammar import GrammarChecker, GrammarLimits
from tgi_router.text.grammar_forms import (
    ANY_OBJECT,
    read_guided_choice,
    read_guided_grammar,
    read_guided_json,
    read_guided_regex,
    read_response_format,
    read_tgi_grammar,
)

SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
TEXT = json.dumps(SCHEMA)
JSON, REGEX, LARK = GrammarKind.JSON, GrammarKind.REGEX, GrammarKind.LARK


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ({"type": "json", "value": SCHEMA}, (JSON, TEXT)),
        ({"type": "json", "value": TEXT}, (JSON, TEXT)),
        ({"type": "json_object", "value": SCHEMA}, (JSON, TEXT)),
        ({"type": "json_schema", "value": {"name": "n", "schema": SCHEMA, "strict": True}}, (JSON, TEXT)),
        ({"type": "regex", "value": "[0-9]+"}, (REGEX, "[0-9]+")),
    ],
)
def test_tgis_grammar_is_read_in_all_its_forms(form: object, written: object) -> None:
    assert read_tgi_grammar(form) == written
    assert read_response_format(form) == written


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, (JSON, ANY_OBJECT)),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": SCHEMA}},
            (JSON, TEXT),
        ),
    ],
)
def test_openais_response_format_is_read(form: object, written: object) -> None:
    assert read_response_format(form) == written


def test_other_servers_fields_are_read() -> None:
    assert read_guided_json(SCHEMA) == read_guided_json(TEXT) == (JSON, TEXT)
    assert read_guided_regex("a+") == (REGEX, "a+")
    assert read_guided_grammar('root ::= "a"') == (LARK, 'root ::= "a"')


def test_choices_are_taken_as_they_are_written() -> None:
    kind, source = read_guided_choice(["yes", 'say "no"\n', "a|b", "", "😀"])
    assert kind is LARK
    GrammarChecker(byte_vocabulary({}, 300), GrammarLimits()).check(kind, source)
    assert source.startswith('start: "yes" | "say \\"no\\"\\n" | "a|b" | "" | ')


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("json", "`grammar` must be an object"),
        ({"type": "json"}, "`grammar` has no `value`"),
        ({"type": "yaml", "value": "a"}, "'yaml'; it must be json, json_schema or regex"),
        ({"type": "json", "value": 3}, "`grammar.value` must be a JSON schema"),
        ({"type": "json_schema", "value": {"name": "n"}}, "no `schema`"),
        ({"type": "regex", "value": ["a"]}, "`grammar.value` must be a text"),
    ],
)
def test_what_is_no_grammar_of_tgis_is_refused_by_name(form: object, reason: str) -> None:
    with pytest.raises(GrammarError, match=reason):
        read_tgi_grammar(form)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (None, "`response_format` must be an object"),
        ({"type": "xml"}, "must be text, json_object or json_schema"),
        ({"type": "json_schema"}, "`response_format.json_schema` must be an object"),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, "no `schema`"),
    ],
)
def test_what_is_no_response_format_is_refused_by_name(form: object, reason: str) -> None:
    with pytest.raises(GrammarError, match=reason):
        read_response_format(form)


@pytest.mark.parametrize("choices", [[], "yes", ["yes", 3], None])
def test_choices_must_be_texts(choices: object) -> None:
    with pytest.raises(GrammarError, match="guided_choice"):
        read_guided_choice(choices)
