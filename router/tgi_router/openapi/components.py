"""JSON schemas of the types on the wire, under the names that TGI's document gives them."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, get_args

from msgspec import UNSET, Struct, json, structs

REFERENCE = "#/components/schemas/{name}"

TGI_NAMES = {
    "AnswerMessage": "OutputMessage",
    "CalledFunction": "Function",
    "Choice": "ChatCompletionComplete",
    "ChunkChoice": "ChatCompletionChoice",
    "CompletionChoice": "CompletionComplete",
    "ContentPart": "MessageChunk",
    "Delta": "ChatCompletionDelta",
    "Function": "FunctionDefinition",
    "FunctionCall": "MadeFunctionCall",
    "Logprobs": "ChatCompletionLogprobs",
    "Model": "ModelInfo",
    "TokenLogprob": "ChatCompletionLogprob",
    "ToolCallDelta": "DeltaToolCall",
    "ToolCallMessage": "MadeToolCall",
    "TopLogprob": "ChatCompletionTopLogprob",
}
"""TGI's names for types called otherwise here, and other names for types whose own mean another there."""

_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def component_schemas(
    requests: Iterable[Any], responses: Iterable[Any]
) -> tuple[dict[Any, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The schema of each type, and the named schemas that these refer to.

    What is read may lack every field that has a default. What is sent has every field but those that are
    `UNSET`, and null in place of a number that is not finite.
    """
    kinds = list(dict.fromkeys([*requests, *responses]))
    schemas, components = json.schema_components(kinds, ref_template=REFERENCE)
    read = structs_in(requests)
    for kind in structs_in(kinds):
        component = components[kind.__name__]
        describe(component, kind)
        if kind not in read:
            as_sent(component, kind)
    by_kind = {
        kind: rewritten(schema, refer_by_tgi_name) for kind, schema in zip(kinds, schemas, strict=True)
    }
    by_name = {tgi_name(name): rewritten(schema, refer_by_tgi_name) for name, schema in components.items()}
    return by_kind, dict(sorted(by_name.items()))


def structs_in(kinds: Iterable[Any]) -> dict[type[Struct], None]:
    """All structures that types are made of, each once, in a stable order."""
    found: dict[type[Struct], None] = {}
    pending = list(kinds)
    while pending:
        kind = pending.pop()
        if not (isinstance(kind, type) and issubclass(kind, Struct)):
            pending += get_args(kind)
        elif kind not in found:
            found[kind] = None
            pending += [field.type for field in structs.fields(kind)]
    return found


def describe(schema: dict[str, Any], kind: type[Struct]) -> None:
    """Describe a type and its fields by its docstring and those of the types it extends."""
    del schema["title"]  # the name it is under says it
    schema["description"] = _summary(kind)
    for base in reversed(kind.__mro__):
        for name, text in _attributes(base).items():
            if name in schema["properties"]:
                schema["properties"][name]["description"] = text


def as_sent(schema: dict[str, Any], kind: type[Struct]) -> None:
    """Turn the schema of what would be read into that of what is sent."""
    schema["required"] = [field.encode_name for field in structs.fields(kind) if field.default is not UNSET]
    for name, field in schema["properties"].items():
        field.pop("default", None)
        schema["properties"][name] = rewritten(field, allow_null_for_number)


def tgi_name(name: str) -> str:
    """What TGI's document calls a type."""
    return TGI_NAMES.get(name, name)


def refer_by_tgi_name(schema: dict[str, Any]) -> dict[str, Any]:
    """For `rewritten`: a reference by TGI's name."""
    if "$ref" not in schema:
        return schema
    return schema | {"$ref": REFERENCE.format(name=tgi_name(schema["$ref"].rpartition("/")[2]))}


def allow_null_for_number(schema: dict[str, Any]) -> dict[str, Any]:
    """For `rewritten`: a number that may be null."""
    return schema | {"type": ["number", "null"]} if schema.get("type") == "number" else schema


def rewritten(schema: Any, rewrite: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:  # noqa: ANN401 - JSON
    """A schema with each object in it rewritten."""
    if isinstance(schema, list):
        return [rewritten(entry, rewrite) for entry in schema]
    if isinstance(schema, dict):
        return rewrite({key: rewritten(value, rewrite) for key, value in schema.items()})
    return schema


def _summary(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n\nAttributes:")[0].replace("\n", " ")


def _attributes(kind: type) -> dict[str, str]:
    """The descriptions in the section "Attributes" of a class's own docstring."""
    text = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
    section = text.partition("\nAttributes:\n")[2]
    return {
        name: words[:1].upper() + re.sub(r"\s+", " ", words[1:])
        for name, words in _ATTRIBUTE.findall(section)
    }
