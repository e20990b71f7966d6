"""Whether this server can answer requests, told from its state and without a generation."""

import asyncio

import structlog

from tgi_router.batching.progress import Progress
from tgi_router.client.group import Shards
from tgi_router.generation import ShardError

PROBE_DEADLINE = 5.0

_log = structlog.get_logger(__name__)


class Health:
    """The truth for the health route.

    With work at hand, steps that finish are the proof of health. Without, the shards are asked whether their
    devices compute; callers that ask at the same time share one answer.

    Args:
        shards: whom to ask when idle.
        progress: how the batcher gets on.
        stall_seconds: work pending for so long without a finished step is unhealthy.
    """

    def __init__(self, shards: Shards, progress: Progress, *, stall_seconds: float) -> None:
        self._shards = shards
        self._progress = progress
        self._stall_seconds = stall_seconds
        self._probe: asyncio.Task[str | None] | None = None

    async def check(self) -> str | None:
        """None when healthy, else what is wrong, in words."""
        if self._progress.busy:
            stalled = self._progress.stalled_seconds
            if stalled > self._stall_seconds:
                return f"requests are waiting, but no step has finished for {stalled:.0f} seconds"
            return None
        if self._probe is None:
            self._probe = asyncio.create_task(self._ask_shards())
            self._probe.add_done_callback(self._forget_probe)
        # A caller that goes away must not take the answer from the others.
        return await asyncio.shield(self._probe)

    async def _ask_shards(self) -> str | None:
        try:
            await self._shards.health(PROBE_DEADLINE)
        except ShardError as error:
            _log.warning("unhealthy", reason=str(error))
            return error.public_text
        return None

    def _forget_probe(self, _probe: asyncio.Task[str | None]) -> None:
        self._probe = None
