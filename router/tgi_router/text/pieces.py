"""What a model's answer is made of, as it streams: text, reasoning, and calls of tools."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """More of the text meant for the user; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thought before it answered; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The model calls a tool.

    Attributes:
        index: the call's place among the answer's calls, from 0.
        id: what the result of the call will refer to.
        name: the tool's name.
    """

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """More of a call's arguments, as the model wrote them: JSON, if the model kept to it. Never empty."""

    index: int
    text: str


ToolPiece = ContentDelta | CallStart | ArgumentsDelta
"""A piece of an answer that may call tools."""

ReasoningPiece = ContentDelta | ReasoningDelta
"""A piece of an answer that may begin with reasoning."""
