"""The forms in which requests write grammars: TGI's, OpenAI's, and those of other servers."""

import json

from tgi_common.grammar import GrammarError, GrammarKind

Written = tuple[GrammarKind, str]
"""A notation and a text in it, not checked yet."""

ANY_OBJECT = '{"type": "object"}'


def read_tgi_grammar(form: object) -> Written:
    """TGI's `grammar`: `{"type": T, "value": V}`.

    T is `json` (or `json_object`) with a schema, as an object or as text; `json_schema` with a name and a
    schema; or `regex`.

    Raises:
        GrammarError: it is none of these.
    """
    fields = _fields(form, "grammar")
    if "value" not in fields:
        raise GrammarError("`grammar` has no `value`")
    value = fields["value"]
    match fields.get("type"):
        case "json" | "json_object":
            return _schema(value, "grammar.value")
        case "json_schema":
            schema = _fields(value, "grammar.value")
            if "schema" not in schema:
                raise GrammarError("`grammar.value` has no `schema`")
            return _schema(schema["schema"], "grammar.value.schema")
        case "regex":
            return GrammarKind.REGEX, _text(value, "grammar.value")
        case other:
            raise GrammarError(f"`grammar.type` is {other!r}; it must be json, json_schema or regex")


def read_response_format(form: object) -> Written | None:
    """OpenAI's `response_format`, or TGI's grammar in its place; None where any text will do.

    A schema is always followed, also where `strict` is false.

    Raises:
        GrammarError: it is of no known type, or lacks its schema.
    """
    fields = _fields(form, "response_format")
    if "value" in fields:
        return read_tgi_grammar(fields)
    match fields.get("type"):
        case "text":
            return None
        case "json_object":
            return GrammarKind.JSON, ANY_OBJECT
        case "json_schema":
            described = _fields(fields.get("json_schema"), "response_format.json_schema")
            if "schema" not in described:
                raise GrammarError("`response_format.json_schema` has no `schema`")
            return _schema(described["schema"], "response_format.json_schema.schema")
        case other:
            raise GrammarError(
                f"`response_format.type` is {other!r}; it must be text, json_object or json_schema"
            )


def read_guided_json(schema: object) -> Written:
    """Other servers' `guided_json`: a schema, as an object or as text.

    Raises:
        GrammarError: it is neither.
    """
    return _schema(schema, "guided_json")


def read_guided_regex(pattern: object) -> Written:
    """Other servers' `guided_regex`.

    Raises:
        GrammarError: it is not a text.
    """
    return GrammarKind.REGEX, _text(pattern, "guided_regex")


def read_guided_choice(choices: object) -> Written:
    """Other servers' `guided_choice`: texts, of which one is the answer.

    Raises:
        GrammarError: they are no list of texts, or there are none.
    """
    if not isinstance(choices, list) or not choices:
        raise GrammarError("`guided_choice` must be a list of one text at least")
    texts = [_text(choice, "guided_choice") for choice in choices]
    return GrammarKind.LARK, "start: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)


def read_guided_grammar(source: object) -> Written:
    """Other servers' `guided_grammar`: Lark, or EBNF as llama.cpp writes it.

    Raises:
        GrammarError: it is not a text.
    """
    return GrammarKind.LARK, _text(source, "guided_grammar")


def _fields(form: object, name: str) -> dict[str, object]:
    if not isinstance(form, dict):
        raise GrammarError(f"`{name}` must be an object")
    return form


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise GrammarError(f"`{name}` must be a text")
    return value


def _schema(value: object, name: str) -> Written:
    if isinstance(value, dict):
        return GrammarKind.JSON, json.dumps(value, ensure_ascii=False)
    if isinstance(value, str):
        return GrammarKind.JSON, value
    raise GrammarError(f"`{name}` must be a JSON schema: an object, or its text")
