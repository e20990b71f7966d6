"""The tools of a chat request: what the model is offered, and what it must do with it."""

import re
from dataclasses import dataclass
from typing import Any

from tgi_router.schema.chat import ChatRequest, NamedTool, Tool
from tgi_router.text.tools.grammar import Tool as CallableTool
from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.refusal import refuse

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""As OpenAI documents function names; dots are taken too, as peers do."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Tools that the model may call.

    Attributes:
        tools: as templates read them, in OpenAI's shape.
        callable: those that the answer may call: all, or the one that was named.
        required: whether it must call one.
        parallel: whether it may call several at once.
    """

    tools: list[dict[str, Any]]
    callable: list[CallableTool]
    required: bool
    parallel: bool


def read_tools(body: ChatRequest, limits: RequestLimits) -> ToolUse | None:
    """The tools of a request; None where the model is not to call any.

    A named tool is the only one that the answer may call, though all are rendered in the prompt.

    Raises:
        ValidationError: a tool cannot be used, or the choice names none of them.
    """
    tools = body.tools or []
    if len(tools) > limits.max_tools:
        refuse(f"`tools` supports up to {limits.max_tools} tools. Given: {len(tools)}", "tools")
    names: set[str] = set()
    for place, tool in enumerate(tools):
        check_tool(tool, place, names)
        names.add(tool.function.name)
    choice = wanted_tool(body)
    if choice not in ("none", "auto", "required") and choice not in names:
        refuse(f"`tool_choice` names {choice!r}, which is not among `tools`", "tool_choice")
    if choice == "required" and not tools:
        refuse("`tool_choice` is `required`, but there are no `tools`", "tool_choice")
    if choice == "none" or not tools:
        return None
    named = choice in names
    return ToolUse(
        tools=[template_tool(tool) for tool in tools],
        callable=[callable_tool(tool) for tool in tools if not named or tool.function.name == choice],
        required=named or choice == "required",
        parallel=not named and body.parallel_tool_calls is not False,
    )


def wanted_tool(body: ChatRequest) -> str:
    """`none`, `auto`, `required`, or the name of the tool to call; TGI's clients give the bare name."""
    choice = body.tool_choice
    if isinstance(choice, NamedTool):
        return choice.function.name
    return choice or "auto"


def check_tool(tool: Tool, place: int, names: set[str]) -> None:
    """Refuse a tool that no model could call.

    Raises:
        ValidationError: it is not a function, or its name is not one, or is taken.
    """
    at = f"tools[{place}]"
    if tool.type != "function":
        refuse(f"`{at}.type` must be `function`. Given: {tool.type!r}", f"{at}.type")
    name = tool.function.name
    if not NAME.fullmatch(name):
        refuse(
            f"`{at}.function.name` must be 1 to 64 letters, digits, underscores, dashes or dots. "
            f"Given: {name[:80]!r}",
            f"{at}.function.name",
        )
    if name in names:
        refuse(f"`{at}.function.name` {name!r} is taken by another tool", f"{at}.function.name")


def callable_tool(tool: Tool) -> CallableTool:
    """A tool as grammars know it."""
    return CallableTool(tool.function.name, parameters_of(tool), strict=bool(tool.function.strict))


def parameters_of(tool: Tool) -> dict[str, Any] | None:
    """The JSON schema of a tool's arguments, under either of its names; None for a tool without any."""
    function = tool.function
    return function.arguments if function.parameters is None else function.parameters


def template_tool(tool: Tool) -> dict[str, Any]:
    """A tool as OpenAI writes it, without what is null."""
    function, parameters = tool.function, parameters_of(tool)
    described = {
        "name": function.name,
        "description": function.description,
        "parameters": {"type": "object", "properties": {}} if parameters is None else parameters,
        "strict": function.strict,
    }
    return {
        "type": "function",
        "function": {name: value for name, value in described.items() if value is not None},
    }
