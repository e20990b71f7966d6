"""Opens the port: aiohttp's server, with this project's connections."""

import asyncio
import logging

from aiohttp import web

from tgi_router.http.connection import Connection, ConnectionLimits

BACKLOG = 1024
# Open requests are finished, however long they take; the launcher knows when it is enough.
DRAIN_SECONDS = 24 * 3600.0


class ListenError(Exception):
    """The port cannot be opened. The message is one line for the user."""


async def listen(
    application: web.Application, hostname: str, port: int, limits: ConnectionLimits
) -> web.AppRunner:
    """Open the port.

    Raises:
        ListenError: it is taken, or the address is not this machine's.
    """
    runner = web.AppRunner(
        application,
        # A client that goes away ends its request, which stops its generation.
        handler_cancellation=True,
        shutdown_timeout=DRAIN_SECONDS,
    )
    await runner.setup()
    try:
        await _Site(runner, hostname, port, limits).start()
    except OSError as error:
        await runner.cleanup()
        raise ListenError(f"cannot listen on {hostname}:{port}: {error.strerror or error}") from None
    return runner


class _Site(web.BaseSite):
    """A port whose connections are `Connection`s."""

    def __init__(self, runner: web.AppRunner, hostname: str, port: int, limits: ConnectionLimits) -> None:
        super().__init__(runner)
        self._address = (hostname, port)
        self._limits = limits

    @property
    def name(self) -> str:
        """Where it listens."""
        return "http://{}:{}".format(*self._address)

    async def start(self) -> None:
        """Listen."""
        await super().start()
        server, loop, logger = self._runner.server, asyncio.get_running_loop(), _peer_faults()
        if server is None:
            raise RuntimeError("the runner is not set up")

        def connect() -> Connection:
            return Connection(server, self._limits, loop, logger)

        self._server = await loop.create_server(connect, *self._address, backlog=BACKLOG)


def _peer_faults() -> logging.Logger:
    """Where aiohttp logs requests that are not HTTP, each with a traceback: nowhere, or any peer fills a log.

    Errors of this server never get that far; the middleware answers and logs them.
    """
    silent = logging.Logger("tgi_router.peers", logging.CRITICAL)
    silent.addHandler(logging.NullHandler())
    return silent
