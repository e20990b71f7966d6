"""Calls and their results in a conversation, in the shape that chat templates want."""

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

from tgi_router.text.tools.formats import ToolFormat

_ID_CHARACTERS = string.ascii_letters + string.digits


def template_messages(messages: Sequence[Mapping[str, Any]], tool_format: ToolFormat) -> list[dict[str, Any]]:
    """Messages as OpenAI has them, as templates want them.

    The arguments of calls become objects, the results text, and ids what the notation accepts. What is not
    about tools stays as it is.
    """
    return [_template_message(message, tool_format) for message in messages]


def _template_message(message: Mapping[str, Any], tool_format: ToolFormat) -> dict[str, Any]:
    changed = dict(message)
    if message.get("tool_calls"):
        changed["tool_calls"] = [_template_call(call, tool_format) for call in message["tool_calls"]]
    if message.get("tool_call_id"):
        changed["tool_call_id"] = _accepted_id(message["tool_call_id"], tool_format)
    if message.get("role") == "tool":
        changed["content"] = _text_of(message.get("content"))
    return changed


def _template_call(call: Mapping[str, Any], tool_format: ToolFormat) -> dict[str, Any]:
    function = dict(call["function"])
    function["arguments"] = _parsed(function.get("arguments"))
    changed = {**call, "type": "function", "function": function}
    if call.get("id"):
        changed["id"] = _accepted_id(call["id"], tool_format)
    return changed


def _parsed(arguments: object) -> object:
    """Arguments as an object; as they are if the model did not write one."""
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    if not arguments.strip():
        return {}
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _text_of(content: object) -> object:
    """A result as one text, also if it came in parts."""
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _accepted_id(call_id: str, tool_format: ToolFormat) -> str:
    """The id, or one made from it in the notation's own form, always the same.

    Only notations without a prefix are strict: Mistral's templates refuse all but nine letters and digits.
    """
    length = tool_format.id_length
    if tool_format.id_prefix or (
        len(call_id) == length and all(character in _ID_CHARACTERS for character in call_id)
    ):
        return call_id
    digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).digest()
    return "".join(_ID_CHARACTERS[byte % len(_ID_CHARACTERS)] for byte in digest[:length])
