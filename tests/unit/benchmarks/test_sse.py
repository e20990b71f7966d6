"""Events are found wherever the network cuts the stream."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sse import EventSplitter, StreamFormatError

STREAM = b': keep-alive\n\ndata: {"a": 1}\n\nevent: x\r\ndata:two\r\n\r\n\ndata: [DONE]\n\n'
EVENTS = [b'{"a": 1}', b"two", b"[DONE]"]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    splitter = EventSplitter()
    edges = [0, *cuts, len(STREAM)]
    received = [STREAM[start:end] for start, end in pairwise(edges)]
    assert [event for part in received for event in splitter.feed(part)] == EVENTS


def test_an_endless_event_is_refused() -> None:
    splitter = EventSplitter()
    half = b"x" * 600_000
    assert splitter.feed(half) == []
    with pytest.raises(StreamFormatError, match="longer than 1 MiB"):
        splitter.feed(half)
