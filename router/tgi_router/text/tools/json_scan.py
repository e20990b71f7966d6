"""Finds the end of a JSON value that comes in pieces, without building the value."""

import re
from enum import Enum, auto

SPACE = " \t\n\r"
"""What JSON allows between its parts."""

_SPACES = re.compile(r"[ \t\n\r]*")
_IN_STRING = re.compile(r'["\\]')
_IN_CONTAINER = re.compile(r'["{}\[\]]')
_SCALAR = re.compile(r"[0-9A-Za-z+\-.]*")
_CLOSERS = {"{": "}", "[": "]"}


class Progress(Enum):
    """How far something has been read."""

    OPEN = auto()
    COMPLETE = auto()
    BROKEN = auto()
    """What came next cannot be part of it; that was not taken."""


def skip_space(text: str, at: int, stop: int) -> int:
    """The place of the first character in `text[at:stop]` that is no whitespace; `stop` if there is none."""
    match = _SPACES.match(text, at, stop)
    return match.end() if match else at


class JsonValueScanner:
    """Follows one value: strings and brackets exactly, as they decide where it ends, the rest leniently."""

    def __init__(self) -> None:
        self.progress = Progress.OPEN
        self._closers: list[str] = []
        self._begun = False
        self._in_string = False
        self._escaped = False

    def feed(self, text: str, at: int, stop: int) -> int:
        """Read on in `text[at:stop]`; return the place up to which it belongs to the value."""
        while at < stop and self.progress is Progress.OPEN:
            if self._in_string:
                at = self._read_string(text, at, stop)
            elif not self._begun:
                at = self._read_first(text, at)
            elif self._closers:
                at = self._read_container(text, at, stop)
            else:
                at = self._read_scalar(text, at, stop)
        return at

    def _read_first(self, text: str, at: int) -> int:
        self._begun = True
        character = text[at]
        if character == '"' or character in _CLOSERS:
            self._enter(character)
            return at + 1
        if not _SCALAR.fullmatch(character):
            self.progress = Progress.BROKEN
        return at

    def _read_string(self, text: str, at: int, stop: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        match = _IN_STRING.search(text, at, stop)
        if match is None:
            return stop
        self._escaped = match.group() == "\\"
        if not self._escaped:
            self._in_string = False
            self._leave()
        return match.end()

    def _read_container(self, text: str, at: int, stop: int) -> int:
        match = _IN_CONTAINER.search(text, at, stop)
        if match is None:
            return stop
        character = match.group()
        if character == '"' or character in _CLOSERS:
            self._enter(character)
        elif character == self._closers[-1]:
            self._closers.pop()
            self._leave()
        else:
            self.progress = Progress.BROKEN
            return match.start()
        return match.end()

    def _read_scalar(self, text: str, at: int, stop: int) -> int:
        """Numbers and the like end before what cannot belong to them."""
        match = _SCALAR.match(text, at, stop)
        end = match.end() if match else at
        if end < stop:
            self.progress = Progress.COMPLETE
        return end

    def _enter(self, character: str) -> None:
        if character == '"':
            self._in_string = True
        else:
            self._closers.append(_CLOSERS[character])

    def _leave(self) -> None:
        if not self._closers:
            self.progress = Progress.COMPLETE
