"""Tells a model of its tools whose chat template does not."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

INSTRUCTION = (
    "You can call functions. To call some, answer with nothing but a JSON list of calls, each an object "
    '{"name": the function\'s name, "arguments": an object of its arguments}. If no function helps, answer '
    "in plain text. These are the functions, as JSON:"
)


def describe_tools(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], instruction: str | None
) -> list[dict[str, Any]]:
    """Messages that begin with a description of the tools, in the system's message if there is one.

    Args:
        messages: with content that is text.
        tools: in OpenAI's shape.
        instruction: what to say of them (TGI's `tool_prompt`); None for our own words.
    """
    listed = json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
    description = f"{instruction or INSTRUCTION}\n{listed}"
    first, *others = messages
    if first["role"] != "system":
        return [{"role": "system", "content": description}, *map(dict, messages)]
    return [{**first, "content": f"{first.get('content') or ''}\n\n{description}"}, *map(dict, others)]
