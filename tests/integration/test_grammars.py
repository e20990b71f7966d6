"""Grammars of rising difficulty on a real server: sampled beside free requests, what ends is valid."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest

from support.server import Server

GENERATIONS = 200
AT_ONCE = 24
EVERY = 5
"""One generation in so many is free."""

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["value"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


def record(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    """A closed object, all of whose properties are required unless some are named."""
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


SHORT = {"type": "string", "maxLength": 6}
SCHEMAS: list[dict[str, Any]] = [
    {"type": "boolean"},
    {"enum": ["red", "green", 7, None]},
    {"const": {"a": [1, 2]}},
    {"type": "integer", "minimum": -5, "maximum": 250},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "string", "pattern": "^[a-c]{2,5}$"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "minLength": 2, "maxLength": 9},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [{"type": "integer"}, SHORT], "items": False, "minItems": 2},
    record(name=SHORT, age={"type": "integer", "minimum": 0, "maximum": 120}),
    record(["a"], a={"type": "boolean"}, b={"type": "null"}, c={"enum": [1, 2]}),
    record(inner=record(deep=record(x={"type": "integer", "minimum": 1, "maximum": 9}))),
    {"anyOf": [record(kind={"const": "a"}, n={"type": "boolean"}), record(kind={"const": "b"}, s=SHORT)]},
    {"type": ["string", "null"], "maxLength": 5},
    record(items={"type": "array", "items": record(id={"type": "integer"}, tag=SHORT), "maxItems": 3}),
    {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 2},
    {"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 8}]},
    TREE,
]
REGEXES = [
    "a",
    "yes|no|maybe",
    "[0-9]{1,4}",
    "[a-z]+",
    "(ab)*c",
    "-?(0|[1-9][0-9]*)",
    "[A-Z][a-z]{1,7}( [A-Z][a-z]{1,7})?",
    r"\d{4}-\d{2}-\d{2}",
    r"\+?[0-9]{2,3}( [0-9]{3}){2}",
    "#[0-9a-fA-F]{6}",
    r"[a-z]{1,8}@[a-z]{1,8}\.(com|org)",
    r"(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}",
    "[^aeiou ]{3,10}",
    "(Mon|Tue|Wed)day, [0-2]?[0-9]:[0-5][0-9]",
    "é{2}(ü|ß)[à-ö]{1,3}",
    r"[a-z\d]{2,5}(-[a-z\d]{2,5}){1,3}",
    "((a|b)(c|d)){2,6}e?",
    r'\{"n": \d{1,3}\}',
    "(one|two|three)(, (one|two|three)){0,4}\\.",
    "<([a-d]{1,3})>[^<]{0,8}</[a-d]{1,3}>",
]


def generate(server: Server, place: int, grammar: dict[str, Any] | None) -> dict[str, Any]:
    """A sampled generation."""
    parameters = {"max_new_tokens": 80, "do_sample": True, "temperature": 1.2, "seed": place, "details": True}
    if grammar is not None:
        parameters["grammar"] = grammar
    reply = server.api.post("/generate", {"inputs": "Once", "parameters": parameters})
    assert reply.status == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def run_beside_free_requests(server: Server, grammar: dict[str, Any]) -> list[str]:
    """The texts that ended as the grammar allows, of many generations mixed with free ones."""
    grammars = [None if place % EVERY == 0 else grammar for place in range(GENERATIONS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(generate, [server] * GENERATIONS, range(GENERATIONS), grammars))
    return [
        answer["generated_text"]
        for answer, given in zip(answers, grammars, strict=True)
        if given is not None and answer["details"]["finish_reason"] == "eos_token"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS, ids=[str(place) for place in range(len(SCHEMAS))])
def test_every_finished_text_validates_against_its_schema(server: Server, schema: dict[str, Any]) -> None:
    finished = run_beside_free_requests(server, {"type": "json", "value": schema})
    assert finished
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for text in finished:
        validator.validate(json.loads(text))


@pytest.mark.slow
@pytest.mark.parametrize("pattern", REGEXES)
def test_every_finished_text_matches_its_regular_expression(server: Server, pattern: str) -> None:
    finished = run_beside_free_requests(server, {"type": "regex", "value": pattern})
    assert finished
    for text in finished:
        assert re.fullmatch(pattern, text), text
