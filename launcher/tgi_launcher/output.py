"""Log lines of the children: read whole, and written in the launcher's format, with the rank."""

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any, TextIO

import structlog

from tgi_common.logging import LogLevel

MAX_LINE_BYTES = 1 << 20
"""A longer line is written in pieces."""

# What the launcher says itself; and `self`, which cannot be handed over by name.
_OUR_KEYS = ("event", "level", "timestamp", "rank", "self")


class SteadyStream(io.TextIOBase):
    """A text stream that may go away: what nobody reads any more must not stop the server."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose the text."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or lose the text."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person may be watching."""
        with contextlib.suppress(ValueError):
            return self._stream.isatty()
        return False


class LineSplitter:
    """Puts lines together from the pieces that a pipe hands over; lines without text are left out."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._pending = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._pending += line
            self.finish()
        self._pending += rest
        if len(self._pending) >= MAX_LINE_BYTES:
            self.finish()

    def finish(self) -> None:
        """Hand over what is there as a line: the stream has ended, or the line."""
        if text := self._pending.decode(errors="replace").rstrip():
            self._take(text)
        self._pending.clear()


class ChildLog:
    """Writes the lines of a child that logs JSON, and remembers its last error.

    A line that is not JSON (a warning of some library, a crash) is written as it is.
    """

    def __init__(self, log: structlog.typing.FilteringBoundLogger, rank: int | None) -> None:
        self._log = log if rank is None else log.bind(rank=rank)
        self.last_error: str | None = None

    def on_output(self, line: str) -> None:
        """Take a line of standard output."""
        record = _parse(line)
        if record is None:
            return self._write(LogLevel.INFO, line, {})
        level = _level_of(record)
        event = str(record["event"])
        if level is LogLevel.ERROR:
            self.last_error = event
        fields = {key: value for key, value in record.items() if key not in _OUR_KEYS}
        return self._write(level, event, fields)

    def on_error(self, line: str) -> None:
        """Take a line of standard error."""
        self._write(LogLevel.WARN, line, {})

    def _write(self, level: LogLevel, event: str, fields: dict[str, Any]) -> None:
        # structlog's lowest level is DEBUG.
        self._log.bind(**fields).log(max(level.number, LogLevel.DEBUG.number), event)


class CopiedLog:
    """Copies the lines of a child that already writes in the format asked for."""

    def __init__(self, output: TextIO, errors: TextIO) -> None:
        self._output = output
        self._errors = errors
        self.last_error: str | None = None

    def on_output(self, line: str) -> None:
        """Take a line of standard output."""
        _copy(line, self._output)
        record = _parse(line)
        if record is not None and _level_of(record) is LogLevel.ERROR:
            self.last_error = str(record["event"])

    def on_error(self, line: str) -> None:
        """Take a line of standard error."""
        _copy(line, self._errors)


def _copy(line: str, stream: TextIO) -> None:
    stream.write(line + "\n")
    stream.flush()


def _parse(line: str) -> dict[str, Any] | None:
    """A log record, if the line is one."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _level_of(record: dict[str, Any]) -> LogLevel:
    try:
        level = LogLevel.parse(str(record.get("level")))
    except ValueError:
        return LogLevel.INFO
    return LogLevel.INFO if level is LogLevel.OFF else level
