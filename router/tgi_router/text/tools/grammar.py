"""Holds a model to calls of its tools: grammars of a notation with each tool's parameters."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tgi_router.text.lark import ANY_TEXT, SpecialTokens, json_value, literal, marker, text_up_to
from tgi_router.text.tools.formats import Layout, ToolFormat

NO_PARAMETERS: Mapping[str, Any] = {"properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    Attributes:
        parameters: a JSON schema of its arguments; None for a function without any.
        strict: what the schema asks for must be enforced; otherwise, parts that cannot be are passed over.
    """

    name: str
    parameters: Mapping[str, Any] | None = None
    strict: bool = False


def required_calls(
    tool_format: ToolFormat, tools: Sequence[Tool], *, parallel: bool, special_tokens: SpecialTokens
) -> str:
    """The grammar, in Lark, of an answer that is one call, or at least one if `parallel`, and nothing else.

    Args:
        tool_format: the notation of calls.
        tools: those that may be called, at least one: for a choice by name, that one alone.
        parallel: whether there may be several calls.
        special_tokens: those of the model's vocabulary.
    """
    first = "calls" if tool_format.bare else "section" + _more_sections(tool_format, parallel=parallel)
    return "\n".join([f"start: {first}", *_rules(tool_format, tools, special_tokens, parallel=parallel), ""])


def optional_calls(
    tool_format: ToolFormat, tools: Sequence[Tool], *, parallel: bool, special_tokens: SpecialTokens
) -> str | None:
    """The grammar, in Lark, of an answer in free text that may go over to calls; None if no tool is strict.

    The arguments are those of `required_calls`.
    """
    if not any(tool.strict for tool in tools):
        return None
    if tool_format.bare:
        # Nothing but the answer's first character tells text from calls.
        begin = tool_format.begin
        mark = f"{marker(begin, special_tokens)}? " if begin in special_tokens else ""
        start = [f"start: TEXT? | {mark}calls", r"TEXT: /[ \n]{0,8}[^\s{\[](.|\n)*/"]
    else:
        more = _more_sections(tool_format, parallel=parallel)
        lead = text_up_to("lead", tool_format.begin, special_tokens)
        start = [f"start: TEXT? | lead inside{more}", lead, ANY_TEXT]
    return "\n".join([*start, *_rules(tool_format, tools, special_tokens, parallel=parallel), ""])


def _rules(
    tool_format: ToolFormat, tools: Sequence[Tool], special_tokens: SpecialTokens, *, parallel: bool
) -> list[str]:
    """What a start refers to: a `section` with its markers, its `inside` behind the first, `calls` bare."""
    rules = [
        f"calls: {_calls(tool_format, parallel=parallel)}",
        f"call: {' | '.join(f'call_{index}' for index in range(len(tools)))}",
        r"SPACE: /[ \n]{0,2}/",
        r"GAP: /[ \n]{1,2}/",
    ]
    for index, tool in enumerate(tools):
        rules.extend(_call(tool_format, index, tool, special_tokens))
    if not tool_format.bare:
        end = f" GAP? {marker(tool_format.end, special_tokens)}" if tool_format.end else ""
        rules.append(f"section: {marker(tool_format.begin, special_tokens)} inside")
        rules.append(f"inside: GAP? calls{end}")
    return rules


def _more_sections(tool_format: ToolFormat, *, parallel: bool) -> str:
    return " (GAP? section)*" if parallel and tool_format.layout is not Layout.LIST else ""


def _calls(tool_format: ToolFormat, *, parallel: bool) -> str:
    """What stands between two markers, or alone where there are none."""
    if tool_format.layout is Layout.LIST:
        several = '"[" GAP? call ("," GAP? call)* GAP? "]"' if parallel else '"[" GAP? call GAP? "]"'
        return f"call | {several}" if tool_format.bare else several
    if tool_format.bare and parallel:
        return f"call ({literal(tool_format.separator.strip())} GAP? call)*"
    return "call"


def _call(tool_format: ToolFormat, index: int, tool: Tool, special_tokens: SpecialTokens) -> list[str]:
    parameters = NO_PARAMETERS if tool.parameters is None else tool.parameters
    arguments = json_value({**parameters, "type": "object"}, lenient=not tool.strict)
    if tool_format.layout is Layout.TAGGED:
        mark = marker(tool_format.arguments_marker, special_tokens)
        return [f"call_{index}: {literal(tool.name)} {mark} {arguments}"]
    name = json.dumps(tool.name, ensure_ascii=False)
    words = ["{", '"name"', ":", name, ",", f'"{tool_format.arguments_key}"', ":"]
    head = " SPACE ".join(map(literal, words))
    return [f'call_{index}: HEAD_{index} {arguments} GAP? "}}"', f"HEAD_{index}: {head} SPACE"]
