"""A whole answer that may call tools, put together from its pieces."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tgi_router.text.pieces import ArgumentsDelta, CallStart, ContentDelta, ToolPiece
from tgi_router.text.tools.formats import ToolFormat
from tgi_router.text.tools.parser import ToolCallParser


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call, with its arguments as the model wrote them: JSON, if the model kept to it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """An answer's text, None if it only calls, and its calls."""

    content: str | None
    calls: tuple[ToolCall, ...]


def parse_tool_calls(text: str, tool_format: ToolFormat, names: Collection[str]) -> ToolAnswer:
    """Read a whole answer; `names` are the tools that there are."""
    parser = ToolCallParser(tool_format, names)
    return gather([*parser.push(text), *parser.finish()])


def gather(pieces: Iterable[ToolPiece]) -> ToolAnswer:
    """Put the pieces of one answer together."""
    content: list[str] = []
    starts: list[CallStart] = []
    arguments: list[list[str]] = []
    for piece in pieces:
        match piece:
            case ContentDelta(text):
                content.append(text)
            case CallStart():
                starts.append(piece)
                arguments.append([])
            case ArgumentsDelta(index, text):
                arguments[index].append(text)
    calls = tuple(
        ToolCall(start.id, start.name, "".join(own)) for start, own in zip(starts, arguments, strict=True)
    )
    return ToolAnswer("".join(content) or (None if calls else ""), calls)
