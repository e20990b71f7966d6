"""Whatever the logits are, a text that follows a grammar matches it."""

import json
import re

import jsonschema
import pytest

from support.grammars import draw_text, json_grammar, lark_grammar, regex_grammar
from tgi_shard.grammar.compile import GrammarCompiler
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.text.tokenizer import ShardTokenizer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": ["string", "null"], "maxLength": 5},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS = [
    PERSON,
    TREE,
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    {"enum": ["red", "green", 3, None, {"a": [1]}]},
    {"const": {"fixed": True}},
    {"type": "string", "pattern": "^[a-f]{2,5}$"},
    {"type": "string", "format": "date"},
    {"type": "number", "minimum": -1.5, "maximum": 20},
    {"type": "integer", "multipleOf": 7},
    {"anyOf": [PERSON, {"type": "boolean"}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"required": ["a"]}]},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": False, "minItems": 2},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object"},
]
PATTERNS = [
    r"[0-9]{3}-[0-9]{4}",
    r"^(yes|no|maybe)$",
    r"(\w{1,6} ){1,3}\w{1,6}\.",
    r"[a-z0-9._]{1,8}@[a-z]{2,5}\.(com|org)",
    r"[^\n]{1,9}",
    r"(?i)abc|[0-9]{4}",
    r"[äöü😀]{2,4}",
    r"a?b*c{2}",
]
WAYS = [
    SamplingParameters(),
    SamplingParameters(do_sample=True, temperature=1.5, seed=3),
    SamplingParameters(top_k=3, top_p=0.9, seed=4),
    SamplingParameters(typical_p=0.5, seed=5),
    SamplingParameters(repetition_penalty=1.3, frequency_penalty=0.4),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=[f"schema{place}" for place in range(len(SCHEMAS))])
def test_a_json_text_fits_its_schema(
    compiler: GrammarCompiler, tokenizer: ShardTokenizer, schema: dict[str, object]
) -> None:
    grammar = compiler.compile(json_grammar(json.dumps(schema)))
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    for seed, sampling in enumerate(WAYS):
        text = tokenizer.decode(draw_text(grammar, tokenizer, seed, sampling), False)
        validator.validate(json.loads(text))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_text_matches_its_regex_from_end_to_end(
    compiler: GrammarCompiler, tokenizer: ShardTokenizer, pattern: str
) -> None:
    grammar = compiler.compile(regex_grammar(pattern))
    for seed, sampling in enumerate(WAYS):
        text = tokenizer.decode(draw_text(grammar, tokenizer, seed, sampling), False)
        assert re.fullmatch(pattern, text)


def test_properties_come_in_the_order_of_the_schema(
    compiler: GrammarCompiler, tokenizer: ShardTokenizer
) -> None:
    schema = (
        '{"properties": {"b": {"const": 1}, "a": {"const": 2}}, "required": ["a", "b"], "type": "object"}'
    )
    grammar = compiler.compile(json_grammar(schema))
    text = tokenizer.decode(draw_text(grammar, tokenizer, 0, WAYS[1]), False)
    assert list(json.loads(text))[:2] == ["b", "a"]


def test_space_in_json_is_flexible_but_ends(compiler: GrammarCompiler, tokenizer: ShardTokenizer) -> None:
    grammar = compiler.compile(json_grammar('{"type": "array"}'))
    grammar.start(tokenizer.encode("[\n" + " " * 16 + "1\t, 2 ]", False))
    with pytest.raises(ValueError, match="cannot be followed"):
        grammar.start(tokenizer.encode("[\n" + " " * 30 + "1, 2]", False))


def test_a_special_token_comes_only_where_lark_names_it(
    compiler: GrammarCompiler, tokenizer: ShardTokenizer
) -> None:
    anything = compiler.compile(regex_grammar("(?s:.{20,40})"))
    assert not tokenizer.special_ids & set(draw_text(anything, tokenizer, 1, WAYS[1]))
    named = compiler.compile(lark_grammar('start: <|im_start|> /[a-z]{1,3}/ <tool_call> "!"'))
    ids = draw_text(named, tokenizer, 1, WAYS[1])
    assert ids[0] == 2
    assert re.fullmatch(r"<\|im_start\|>[a-z]{1,3}<tool_call>!", tokenizer.decode(ids, False))
