"""Reads one call of a tool that comes in pieces: its name, and its arguments as they were written."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import TypeVar

from tgi_router.text.tools.formats import ToolFormat
from tgi_router.text.tools.json_scan import JsonValueScanner, Progress, skip_space

ARGUMENT_KEYS = ("arguments", "parameters")
"""What models call the arguments; they mix the two up, so both are read in every notation."""

MAX_NAME_CHARACTERS = 1_000
"""The longest key, name or head of a call that is waited for."""

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Reads on whenever it is resumed, and yields when it needs more text."""


class CallReader(ABC):
    """Reads one call.

    Attributes:
        name: the tool's name, as soon as it is known.
        has_arguments: whether any have come.
    """

    def __init__(self) -> None:
        self.progress = Progress.OPEN
        self.name: str | None = None
        self.has_arguments = False
        self._fresh: list[str] = []
        self._text, self._at, self._stop = "", 0, 0
        self._steps = self._read()

    def feed(self, text: str, at: int, stop: int) -> int:
        """Read on in `text[at:stop]`; return the place it got to. It stops right behind the name, once."""
        self._text, self._at, self._stop = text, at, stop
        try:
            next(self._steps)
        except StopIteration:
            self.progress = Progress.COMPLETE
        except _BrokenCallError:
            self.progress = Progress.BROKEN
        return self._at

    def take_arguments(self) -> str:
        """The arguments that came since they were last taken."""
        text = "".join(self._fresh)
        self._fresh.clear()
        return text

    @abstractmethod
    def _read(self) -> Steps[None]:
        """Read the call; yield once when the name has been found."""

    def _read_arguments(self) -> Steps[None]:
        self.has_arguments = True
        yield from self._read_value(self._fresh.append)

    def _read_value(self, keep: Callable[[str], None], limit: int | None = None) -> Steps[None]:
        """Read a JSON value of at most `limit` characters and keep its text, piece by piece."""
        scanner = JsonValueScanner()
        while True:
            stop = self._stop if limit is None else min(self._stop, self._at + limit)
            end = scanner.feed(self._text, self._at, stop)
            piece, self._at = self._text[self._at : end], end
            if piece:
                keep(piece)
            if scanner.progress is Progress.COMPLETE:
                return
            if limit is not None:
                limit -= len(piece)
            if scanner.progress is Progress.BROKEN or limit == 0:
                raise _BrokenCallError
            yield


class ObjectCall(CallReader):
    """A call as an object, whose keys may come in any order: `{"name": "f", "arguments": {…}}`."""

    def _read(self) -> Steps[None]:
        yield from self._take("{")
        if (yield from self._peek()) == "}":
            self._at += 1
            return
        yield from self._read_entry()
        while (yield from self._take(",}")) == ",":
            yield from self._read_entry()

    def _read_entry(self) -> Steps[None]:
        key = yield from self._read_string()
        yield from self._take(":")
        yield from self._peek()
        if key == "name" and self.name is None:
            self.name = yield from self._read_string()
            yield
        elif key in ARGUMENT_KEYS and not self.has_arguments:
            yield from self._read_arguments()
        else:
            yield from self._read_value(_ignore)

    def _read_string(self) -> Steps[str]:
        if (yield from self._peek()) != '"':
            raise _BrokenCallError
        pieces: list[str] = []
        yield from self._read_value(pieces.append, MAX_NAME_CHARACTERS)
        try:
            text: str = json.loads("".join(pieces), strict=False)
        except ValueError:
            raise _BrokenCallError from None
        return text

    def _take(self, allowed: str) -> Steps[str]:
        """Skip whitespace and one of the allowed characters; return it."""
        character = yield from self._peek()
        if character not in allowed:
            raise _BrokenCallError
        self._at += 1
        return character

    def _peek(self) -> Steps[str]:
        """Skip whitespace; return the character behind it."""
        while True:
            self._at = skip_space(self._text, self._at, self._stop)
            if self._at < self._stop:
                return self._text[self._at]
            yield


class TaggedCall(CallReader):
    """A call as the name, a marker, and the arguments: `f[ARGS]{…}`, or with an id `f[CALL_ID]x[ARGS]{…}`.

    The marker may be missing: what matters is the arguments' brace.
    """

    def __init__(self, tool_format: ToolFormat) -> None:
        self._format = tool_format
        super().__init__()

    def _read(self) -> Steps[None]:
        head = yield from self._read_head()
        head = head.strip().removesuffix(self._format.arguments_marker)
        self.name = head.partition(self._format.id_marker)[0].strip()
        yield
        yield from self._read_arguments()

    def _read_head(self) -> Steps[str]:
        """Read what is before the first brace; it has to be in the same line."""
        head = ""
        while True:
            stop = min(self._stop, self._at + MAX_NAME_CHARACTERS - len(head))
            ends = [place for mark in "{\n" if (place := self._text.find(mark, self._at, stop)) >= 0]
            end = min(ends, default=stop)
            head += self._text[self._at : end]
            self._at = end
            if ends and self._text[end] == "{":
                return head
            if ends or len(head) == MAX_NAME_CHARACTERS:
                raise _BrokenCallError
            yield


class _BrokenCallError(Exception):
    """What came next cannot be part of a call."""


def _ignore(_: str) -> None:
    """Keep nothing."""
