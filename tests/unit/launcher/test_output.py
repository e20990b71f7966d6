import io
import json
from itertools import pairwise

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tgi_launcher import output
from tgi_launcher.output import ChildLog, CopiedLog, LineSplitter, SteadyStream


def split(*pieces: bytes) -> list[str]:
    lines: list[str] = []
    splitter = LineSplitter(lines.append)
    for piece in pieces:
        splitter.feed(piece)
    splitter.finish()
    return lines


@given(
    lines=st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), max_size=6),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_lines_are_whole_wherever_the_pieces_are_cut(lines: list[str], cuts: list[int]) -> None:
    data = "\n".join(lines).encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert split(*(data[start:end] for start, end in pairwise(edges))) == lines


def test_a_last_line_without_end_is_not_lost() -> None:
    assert split(b"one\ntwo") == ["one", "two"]


def test_a_line_beyond_the_bound_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_LINE_BYTES", 4)
    assert split(b"abcd", b"ef\n", b"g") == ["abcd", "ef", "g"]


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert split(b"\xff!\r\n", b" \n\n") == ["\ufffd!"]


def child_log(rank: int | None = 1) -> ChildLog:
    return ChildLog(structlog.get_logger(), rank)


def test_a_record_keeps_its_level_and_fields_and_gets_the_rank() -> None:
    record = {"event": "loaded", "level": "warning", "timestamp": "then", "dtype": "float32"}
    with capture_logs() as entries:
        child_log().on_output(json.dumps(record))
    assert entries == [{"event": "loaded", "log_level": "warning", "dtype": "float32", "rank": 1}]


def test_the_download_has_no_rank() -> None:
    with capture_logs() as entries:
        child_log(rank=None).on_output('{"event": "done", "level": "info"}')
    assert entries == [{"event": "done", "log_level": "info"}]


@pytest.mark.parametrize(
    "line", ["plain", "{broken", "[1]", '{"no": "event"}', "{" * 100_000, "100% %s {curly}"]
)
def test_what_is_no_record_is_shown_as_it_is(line: str) -> None:
    with capture_logs() as entries:
        child_log().on_output(line)
        child_log().on_error(line)
    assert [entry["event"] for entry in entries] == [line, line]
    assert [entry["log_level"] for entry in entries] == ["info", "warning"]


@pytest.mark.parametrize(("level", "shown"), [("trace", "debug"), ("loud", "info"), (None, "info")])
def test_strange_levels_are_shown_near_what_they_mean(level: str | None, shown: str) -> None:
    with capture_logs() as entries:
        child_log().on_output(json.dumps({"event": "x", "level": level}))
    assert entries[0]["log_level"] == shown


def test_a_field_cannot_pass_for_one_of_the_launchers() -> None:
    with capture_logs() as entries:
        child_log(rank=0).on_output('{"event": "x", "level": "info", "rank": 7, "self": 1, "name": "n"}')
    assert entries == [{"event": "x", "log_level": "info", "rank": 0, "name": "n"}]


def test_the_last_error_is_remembered() -> None:
    log = child_log()
    assert log.last_error is None
    with capture_logs():
        for level, event in (("error", "first"), ("critical", "second"), ("info", "later")):
            log.on_output(json.dumps({"level": level, "event": event}))
    assert log.last_error == "second"


def test_the_routers_lines_are_copied_unchanged() -> None:
    out, errors = io.StringIO(), io.StringIO()
    log = CopiedLog(out, errors)
    record = '{"event":  "no memory", "level": "error"}'
    for line in ("2026-01-01 [info] ready", record):
        log.on_output(line)
    log.on_error("complaint")
    assert out.getvalue() == f"2026-01-01 [info] ready\n{record}\n"
    assert errors.getvalue() == "complaint\n"
    assert log.last_error == "no memory"


class GoneStream(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_reader_that_has_gone_stops_nothing() -> None:
    stream = SteadyStream(GoneStream())
    assert stream.write("x") == 1
    stream.flush()
    assert not stream.isatty()


def test_a_steady_stream_writes_what_it_is_given() -> None:
    inner = io.StringIO()
    print("x", file=SteadyStream(inner), flush=True)
    assert inner.getvalue() == "x\n"
