"""Whether the batcher gets anywhere: what the health route wants to know."""

import time
from collections.abc import Callable


class Progress:
    """Remembers since when there has been work without a finished step."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting_since: float | None = None

    @property
    def busy(self) -> bool:
        """Whether there is work."""
        return self._waiting_since is not None

    @property
    def stalled_seconds(self) -> float:
        """How long work has been waiting for a step to finish; 0 without work."""
        return 0.0 if self._waiting_since is None else self._clock() - self._waiting_since

    def work_arrived(self) -> None:
        """Note that there is work."""
        if self._waiting_since is None:
            self._waiting_since = self._clock()

    def step_finished(self) -> None:
        """Note that a step was answered, well or not."""
        self._waiting_since = self._clock()

    def work_done(self) -> None:
        """Note that nothing is left to do."""
        self._waiting_since = None
