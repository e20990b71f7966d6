"""Shows a download: a bar on a terminal, a log line now and then elsewhere."""

import io
import time
from typing import Any

import structlog
from tqdm.auto import tqdm

Progress = type["tqdm[Any]"]


# tqdm is generic in its stubs only.
class NoProgress(tqdm):  # type: ignore[type-arg]
    """A stand-in for `tqdm` that shows nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - tqdm's own
        super().__init__(*args, **kwargs | {"disable": True})


def log_progress(log: structlog.typing.FilteringBoundLogger, seconds: float = 10.0) -> Progress:
    """A stand-in for `tqdm` that writes a log line at most every so many seconds.

    Several bars may run for one download (files, bytes): they share the interval, so that one line tells it.
    """
    last_line = time.monotonic()

    class LogProgress(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - tqdm's own
            # The sink takes the line ends that tqdm writes by itself when a bar closes.
            kwargs |= {"file": io.StringIO(), "disable": False, "mininterval": seconds}
            super().__init__(*args, **kwargs)

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            nonlocal last_line
            now = time.monotonic()
            if now - last_line < seconds or not self.total:
                return
            last_line = now
            if self.unit == "B":
                amount = f"{_size(self.n)} of {_size(self.total)}"
            else:
                amount = f"{self.n:g} of {self.total:g} files"
            log.info(f"downloading: {amount} ({100 * self.n / self.total:.0f}%)")

    return LogProgress


def _size(count: float) -> str:
    return f"{tqdm.format_sizeof(count, divisor=1000)}B"
