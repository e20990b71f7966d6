"""Tells a model's calls of tools from its text, while both are streaming."""

import secrets
import string
from collections.abc import Collection

from tgi_router.text.markers import overlap
from tgi_router.text.pieces import ArgumentsDelta, CallStart, ContentDelta, ToolPiece
from tgi_router.text.tools.calls import CallReader, ObjectCall, TaggedCall
from tgi_router.text.tools.formats import ToolFormat
from tgi_router.text.tools.json_scan import Progress, skip_space
from tgi_router.text.tools.trim import CallSpaceTrimmer

MAX_HELD_CHARACTERS = 262_144
"""The longest call whose name comes late. What is longer is taken for text."""

_ID_CHARACTERS = string.ascii_letters + string.digits


class ToolCallParser:
    """Reads one answer. The pieces it makes say the same, however the text was cut.

    What cannot be a call is passed on at once as content, without the whitespace around calls. A call begins
    with its name, as soon as that is known to be a tool's. What looked like a call and is none, as it is
    malformed or names no tool, is given back as content; what turns out malformed later stays a call.

    Args:
        tool_format: the notation of calls.
        names: the tools that there are.
    """

    def __init__(self, tool_format: ToolFormat, names: Collection[str]) -> None:
        self._format = tool_format
        self._names = frozenset(names)
        self._call: CallReader = ObjectCall()
        self._calls = 0
        self._in_list = False
        self._held: list[str] = []
        self._room = MAX_HELD_CHARACTERS
        self._rest = ""
        self._trimmer = CallSpaceTrimmer()
        self._pieces: list[ToolPiece] = []
        self._read = self._read_start if tool_format.bare else self._read_text

    def push(self, text: str) -> list[ToolPiece]:
        """Take more of the answer; return what is known from it."""
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            at = self._read(text, at)
        return self._take_pieces()

    def finish(self) -> list[ToolPiece]:
        """The answer has ended; return what was held back."""
        if self._held:
            self._give_back()
        elif self._read != self._read_after:
            self._show(self._rest)
        if space := self._trimmer.finish():
            self._pieces.append(ContentDelta(space))
        return self._take_pieces()

    # Each reader takes a part of `text` from `at` on, returns the place behind it, and says who reads on.

    def _read_start(self, text: str, at: int) -> int:
        """The answer has not begun yet: with nothing but calls?"""
        end = skip_space(text, at, len(text))
        self._show(text[at:end])
        if end < len(text):
            self._read = self._read_section if text[end] in "{[" else self._read_text
        return end

    def _read_text(self, text: str, at: int) -> int:
        """Text, up to a marker."""
        begin = self._format.begin
        place = text.find(begin, at) if begin else -1
        if place >= 0:
            self._show(text[at:place])
            self._hold(begin)
            self._read = self._read_section
            return place + len(begin)
        end = len(text) - overlap(text[at:], begin)
        self._show(text[at:end])
        self._rest = text[end:]
        return len(text)

    def _read_section(self, text: str, at: int) -> int:
        """Behind a marker, or in front of what may be a bare call."""
        end = skip_space(text, at, min(len(text), at + self._room))
        self._hold(text[at:end])
        if end == len(text):
            return end
        if text[end] == "[" and not self._in_list and self._room:
            self._in_list = True
            self._hold("[")
            return end + 1
        if text[end] == "{":
            self._begin_call(ObjectCall())
        elif self._format.arguments_marker and not self._in_list:
            self._begin_call(TaggedCall(self._format))
        else:
            self._give_back()
        return end

    def _read_call(self, text: str, at: int) -> int:
        """Inside a call whose tool is not known yet."""
        end = self._call.feed(text, at, min(len(text), at + self._room))
        self._hold(text[at:end])
        if self._call.name in self._names:
            self._start_call(self._call.name)
        elif self._call.name is not None or self._call.progress is not Progress.OPEN or not self._room:
            self._give_back()
        return end

    def _read_arguments(self, text: str, at: int) -> int:
        """Inside a call that has been announced."""
        end = self._call.feed(text, at, len(text))
        self._pass_arguments()
        if self._call.progress is Progress.COMPLETE and not self._call.has_arguments:
            self._pieces.append(ArgumentsDelta(self._calls - 1, "{}"))
        if self._call.progress is not Progress.OPEN:
            self._read = self._read_after
        return end

    def _read_after(self, text: str, at: int) -> int:
        """Behind a call: another one, the end of the list or of the section, or text again."""
        at = skip_space(text, at, len(text))
        if at == len(text):
            return at
        if text[at] == "{":
            self._begin_call(ObjectCall())
            return at
        if text[at] in self._format.separator or (self._in_list and text[at] in ",]"):
            self._in_list = self._in_list and text[at] != "]"
            return at + 1
        end = self._format.end
        seen = text[at : at + len(end)]
        if seen != end and end.startswith(seen):
            self._rest = seen
            return len(text)
        self._in_list = False
        self._read = self._read_text
        return at + len(end) if seen == end else at

    def _begin_call(self, reader: CallReader) -> None:
        self._call = reader
        self._read = self._read_call

    def _start_call(self, name: str) -> None:
        self._forget_held()
        self._trimmer.call()
        self._pieces.append(CallStart(self._calls, new_call_id(self._format), name))
        self._calls += 1
        self._pass_arguments()
        self._read = self._read_arguments

    def _pass_arguments(self) -> None:
        if arguments := self._call.take_arguments():
            self._pieces.append(ArgumentsDelta(self._calls - 1, arguments))

    def _hold(self, text: str) -> None:
        self._held.append(text)
        self._room -= len(text)

    def _forget_held(self) -> None:
        self._held.clear()
        self._room = MAX_HELD_CHARACTERS

    def _give_back(self) -> None:
        """What is held was no call."""
        self._show("".join(self._held))
        self._forget_held()
        self._in_list = False
        self._read = self._read_text

    def _show(self, text: str) -> None:
        if shown := self._trimmer.push(text):
            self._pieces.append(ContentDelta(shown))

    def _take_pieces(self) -> list[ToolPiece]:
        pieces, self._pieces = self._pieces, []
        return pieces


def new_call_id(tool_format: ToolFormat) -> str:
    """An id that no other call has, in the form that the notation wants."""
    characters = (secrets.choice(_ID_CHARACTERS) for _ in range(tool_format.id_length))
    return tool_format.id_prefix + "".join(characters)
