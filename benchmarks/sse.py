"""Splits a stream of server-sent events: the client's half of what these servers write."""

_LONGEST_EVENT = 1 << 20


class StreamFormatError(Exception):
    """The bytes are no stream of server-sent events."""


class EventSplitter:
    """Collects bytes as they arrive and gives back the data of each event that is complete."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, received: bytes) -> list[bytes]:
        """Take the next bytes; answer the data of the events that they complete. Comments are left out.

        Raises:
            StreamFormatError: an event longer than 1 MiB.
        """
        *lines, self._pending = (self._pending + received).split(b"\n")
        if len(self._pending) > _LONGEST_EVENT:
            raise StreamFormatError("an event longer than 1 MiB")
        # Every server of the kind writes an event's data on one line, so a line is enough to know an event.
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
