from collections.abc import Iterable

import pytest
import structlog
from structlog.testing import capture_logs

from tgi_common.progress import NoProgress, log_progress

log = structlog.get_logger()


def lines(entries: Iterable[object]) -> list[str]:
    return [entry["event"] for entry in entries if isinstance(entry, dict)]


def test_bytes_are_told_with_their_sum() -> None:
    with capture_logs() as entries, log_progress(log, seconds=0)(total=4_000_000, unit="B") as bar:
        bar.update(1_000_000)
    assert "downloading: 1.00MB of 4.00MB (25%)" in lines(entries)


def test_files_are_counted() -> None:
    with capture_logs() as entries, log_progress(log, seconds=0)(total=4) as bar:
        bar.update(3)
    assert "downloading: 3 of 4 files (75%)" in lines(entries)


def test_all_bars_together_say_nothing_within_the_interval() -> None:
    progress = log_progress(log, seconds=3600)
    with capture_logs() as entries, progress(total=4) as first, progress(total=9, unit="B") as second:
        first.update(3)
        second.update(8)
    assert entries == []


def test_a_download_of_unknown_size_says_nothing() -> None:
    with capture_logs() as entries, log_progress(log, seconds=0)(total=0, unit="B") as bar:
        bar.update(3)
    assert entries == []


def test_no_progress_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with NoProgress(total=4) as bar:
        bar.update(3)
        bar.refresh()
    assert capfd.readouterr() == ("", "")
