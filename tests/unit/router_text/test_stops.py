"""Stop strings never show in an answer, in whatever pieces it comes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgi_router.text.stops import StopFilter, cut_stop


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("one STOP", ["STOP"], "one "),
        ("one STOP two", ["STOP"], "one "),
        ("one", ["STOP"], "one"),
        ("xab", ["b", "ab"], "x"),
        ("xaby", ["y", "ab"], "x"),
        ("", ["a"], ""),
    ],
)
def test_a_text_ends_before_the_first_stop_string(text: str, stops: list[str], shown: str) -> None:
    assert cut_stop(text, stops) == shown


def test_text_that_cannot_begin_a_stop_string_passes_at_once() -> None:
    stops = StopFilter(["\n\n"])
    assert stops.push("hello") == "hello"


def test_what_may_begin_a_stop_string_is_held_back_until_it_does_not() -> None:
    stops = StopFilter(["END"])
    assert [stops.push(piece) for piece in ("a E", "N", "x")] == ["a ", "", "ENx"]


def test_an_end_by_length_gives_what_was_held_back() -> None:
    stops = StopFilter(["END"])
    assert stops.push("a EN") == "a "
    assert stops.finish("", stopped=False) == "EN"


def test_a_stop_string_across_pieces_never_shows() -> None:
    stops = StopFilter(["END"])
    assert stops.push("a E") + stops.push("N") + stops.finish("D", stopped=True) == "a "


def test_text_behind_the_stop_string_in_the_same_token_is_dropped_with_it() -> None:
    stops = StopFilter(["END"])
    assert stops.push("a ") + stops.finish("bENDc", stopped=True) == "a b"


@settings(max_examples=200)
@given(
    pieces=st.lists(st.text("ab", max_size=3), max_size=8),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    last=st.text("ab", max_size=3),
)
def test_pieces_show_what_the_whole_text_would(pieces: list[str], stops: list[str], last: str) -> None:
    """Pieces as a shard sends them: it stops at the first token with which a stop string is complete."""
    sent: list[str] = []
    for piece in [*pieces, last]:
        sent.append(piece)
        if any(stop in "".join(sent) for stop in stops):
            break
    text = "".join(sent)
    stopped = any(stop in text for stop in stops)
    shown = StopFilter(stops)
    streamed = "".join(shown.push(piece) for piece in sent[:-1]) + shown.finish(sent[-1], stopped=stopped)
    assert streamed == (cut_stop(text, stops) if stopped else text)
