"""Requests that wait for their first batch, first come, first served."""

from collections import OrderedDict
from collections.abc import Iterator

from tgi_router.batching.entry import Entry


class RequestQueue:
    """Waiting entries in order of arrival. Permits bound its length."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, entry: Entry) -> bool:
        return entry.id in self._entries

    def append(self, entry: Entry) -> None:
        """Add an entry at the end."""
        self._entries[entry.id] = entry

    def remove(self, entry: Entry) -> None:
        """Take an entry out, wherever it stands."""
        del self._entries[entry.id]

    def pop_all(self) -> list[Entry]:
        """Take out every entry."""
        entries = list(self._entries.values())
        self._entries.clear()
        return entries
