"""How the served model writes what is not plain text: calls of tools, and its reasoning."""

from collections.abc import Mapping
from dataclasses import dataclass

from tgi_router.text.reasoning import ReasoningMarkers
from tgi_router.text.tools.formats import ToolFormat


@dataclass(frozen=True, slots=True)
class Dialect:
    """A model's own notations.

    Attributes:
        tool_format: how it calls tools.
        reasoning: what stands around its reasoning; None if it does not reason.
        special_tokens: ids of its special tokens, by text.
    """

    tool_format: ToolFormat
    reasoning: ReasoningMarkers | None
    special_tokens: Mapping[str, int]

    @property
    def tool_markers(self) -> frozenset[str]:
        """The texts that calls are found by, which may be special tokens."""
        own = self.tool_format
        return frozenset({own.begin, own.end, own.arguments_marker, own.id_marker} - {""})
