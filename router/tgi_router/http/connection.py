"""A client's connection: aiohttp's, with bounds on what a peer may hold up, and errors in our form."""

import asyncio
from dataclasses import dataclass
from logging import Logger
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from msgspec.json import encode

from tgi_router.http.json_response import json_response
from tgi_router.http.request_id import HEADER, new_request_id
from tgi_router.schema.errors import ErrorResponse

SERVER_NAME = "text-generation-inference"
FULL = ErrorResponse("too many connections are open", "overloaded")
NOT_HTTP = ErrorResponse("the request is not HTTP, or its line or headers are too long", "bad_request")
INTERNAL = ErrorResponse("Internal server error", "internal")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a connection may take.

    Attributes:
        header_timeout: seconds for a request's line and headers, and for the first byte of a new connection.
        write_timeout: seconds that a client may leave an answer unread.
        max_connections: how many may be open.
    """

    header_timeout: float
    write_timeout: float
    max_connections: int


class Connection(RequestHandler):
    """One connection.

    A connection that is kept alive between requests may be idle for as long as aiohttp lets it, an hour: load
    balancers keep theirs for minutes.
    """

    __slots__ = ("_head_deadline", "_limits", "_write_deadline")

    def __init__(
        self, server: web.Server, limits: ConnectionLimits, loop: asyncio.AbstractEventLoop, logger: Logger
    ) -> None:
        # Bodies are not decompressed: those that say they are compressed are refused.
        super().__init__(server, loop=loop, logger=logger, access_log=None, auto_decompress=False)  # type: ignore[arg-type]
        self._limits = limits
        self._head_deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        if self._manager is not None and len(self._manager.connections) > self._limits.max_connections:
            self._refuse()
            return
        self._head_deadline = self._loop.call_later(self._limits.header_timeout, self._end_slow_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is closed, by whichever side."""
        for deadline in (self._head_deadline, self._write_deadline):
            if deadline is not None:
                deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request have come."""
        super().data_received(data)
        if not self._awaits_head():
            if self._head_deadline is not None:
                self._head_deadline.cancel()
                self._head_deadline = None
        elif self._head_deadline is None:
            self._head_deadline = self._loop.call_later(self._limits.header_timeout, self._end_slow_head)

    def pause_writing(self) -> None:
        """The client reads slower than this server writes: from here on it has to catch up in time."""
        super().pause_writing()
        self._write_deadline = self._loop.call_later(self._limits.write_timeout, self._end_unread_answer)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what never reaches a route; its words tell nothing of what was sent."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: there is no way to tell the error")
        response = json_response(NOT_HTTP if status < 500 else INTERNAL, status=status)
        response.headers["Server"] = SERVER_NAME  # not aiohttp's own, with Python's version
        response.headers[HEADER] = new_request_id()
        response.force_close()
        return response

    def _awaits_head(self) -> bool:
        """Whether this connection's task waits for a request's headers, or for the rest of them."""
        return self._waiter is not None and not self._waiter.done()

    def _end_slow_head(self) -> None:
        self._head_deadline = None
        if self._awaits_head():
            self.force_close()

    def _end_unread_answer(self) -> None:
        # Not closed but cut: what was not read would have to be sent first. Losing the connection cancels the
        # request, which stops its generation.
        if self.transport is not None:
            self.transport.abort()

    def _refuse(self) -> None:
        transport: Any = self.transport
        body = encode(FULL)
        transport.write(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.force_close()
