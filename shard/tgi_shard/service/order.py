"""The order of steps, which gRPC does not keep: a small message overtakes a large one sent before it."""

import asyncio

# Seconds for the message of the step before to arrive, once that of the next one has.
ARRIVAL_TIMEOUT = 30.0


class StepOrder:
    """Lets steps that were sent ahead wait for the step they follow."""

    def __init__(self) -> None:
        self._last = 0
        self._next_start: asyncio.Event = asyncio.Event()

    def started(self, step: int) -> None:
        """Note that a step has its place in the engine's queue; its successor may take the next one."""
        self._last = step
        self._next_start.set()
        self._next_start = asyncio.Event()

    async def wait_for(self, step: int) -> None:
        """Return once this step is the last that has started.

        Raises:
            ValueError: it does not come.
        """
        try:
            async with asyncio.timeout(ARRIVAL_TIMEOUT):
                while self._last != step:
                    await self._next_start.wait()
        except TimeoutError:
            raise ValueError(
                f"a step was sent ahead of step {step}, which has not come; the last was {self._last}"
            ) from None
