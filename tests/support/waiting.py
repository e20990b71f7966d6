"""Waiting for a condition, with a bound."""

import time
from collections.abc import Callable

POLL_SECONDS = 0.02


def eventually(condition: Callable[[], bool], what: str, within: float = 20.0) -> None:
    """Return as soon as `condition()` holds; fail, naming `what`, when it does not within so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(POLL_SECONDS)
