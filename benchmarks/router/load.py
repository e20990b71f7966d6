"""A load client that leaves the processor to the server: plain sockets, and a look for the tokens.

It knows the tokens of the stub shard, whose texts are the times when they were answered (`stub_shard.py`),
and reads no more of an answer than those: parsing it would cost more than the server spends on writing it.
"""

import json
import re
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_HOST = "127.0.0.1"
_TIMEOUT_SECONDS = 30.0
_RECEIVE_BYTES = 1 << 18
_TOKEN = re.compile(rb'"(?:text|content)":" (\d+)"')
_STATUS_OK = b"HTTP/1.1 200 "
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class LoadError(Exception):
    """A request was not answered as it should have been."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route that streams, and how it is asked.

    Attributes:
        body: the JSON of a request, from its prompt and the number of tokens to generate.
    """

    path: str
    body: Callable[[str, int], Mapping[str, Any]]

    def write_request(self, prompt: str, output_tokens: int) -> bytes:
        """A whole HTTP request."""
        body = json.dumps(self.body(prompt, output_tokens)).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: {_HOST}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


ROUTES = (
    Route(
        "/v1/completions",
        lambda prompt, tokens: {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True},
    ),
    Route(
        "/v1/chat/completions",
        lambda prompt, tokens: {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
        },
    ),
    Route(
        "/generate_stream",
        lambda prompt, tokens: {"inputs": prompt, "parameters": {"max_new_tokens": tokens}},
    ),
)


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load.

    Attributes:
        delays_us: for each token, microseconds from the shard's answer to its receipt here.
        wall_s: from sending the first request to the end of the last answer, in seconds.
    """

    delays_us: list[int]
    wall_s: float


def run_load(port: int, streams: int, requests: Iterable[bytes], output_tokens: int) -> Load:
    """Send requests over so many connections, each the next one when its last is answered in full.

    Raises:
        LoadError: a request was refused, broke off, or gave other than `output_tokens` tokens.
    """
    left = iter(requests)
    delays_us: list[int] = []
    with selectors.DefaultSelector() as selector:
        connections = [socket.create_connection((_HOST, port)) for _ in range(streams)]
        try:
            started = time.perf_counter()
            for connection in connections:
                client = _Client(connection, left, output_tokens, delays_us)
                if client.send_next():
                    selector.register(connection, selectors.EVENT_READ, client)
            while selector.get_map():
                ready = selector.select(_TIMEOUT_SECONDS)
                if not ready:
                    raise LoadError(f"nothing came for {_TIMEOUT_SECONDS:.0f} s")
                for key, _ in ready:
                    if not key.data.receive():
                        selector.unregister(key.fileobj)
            return Load(delays_us, time.perf_counter() - started)
        finally:
            for connection in connections:
                connection.close()


class _Client:
    """One connection and the answer that comes in on it."""

    def __init__(
        self, connection: socket.socket, requests: Iterator[bytes], output_tokens: int, delays_us: list[int]
    ) -> None:
        self._connection = connection
        self._requests = requests
        self._expected = output_tokens
        self._delays_us = delays_us
        self._tokens = 0
        self._pending = b""

    def send_next(self) -> bool:
        """Send the next request, if there is one left."""
        request = next(self._requests, None)
        if request is None:
            return False
        self._connection.sendall(request)
        self._tokens = 0
        self._pending = b""
        return True

    def receive(self) -> bool:
        """Read what is there; whether more will come.

        Raises:
            LoadError: it is not what was asked for.
        """
        received = self._connection.recv(_RECEIVE_BYTES)
        now_us = time.monotonic_ns() // 1000
        if not received:
            raise LoadError("the connection was closed before its answer was complete")
        if self._tokens == 0 and not self._pending and not received.startswith(_STATUS_OK):
            raise LoadError(f"refused: {received[:200]!r}")
        answer = self._pending + received
        events, _, self._pending = answer.rpartition(b"\n\n")
        for stamp in _TOKEN.findall(events):
            self._delays_us.append(now_us - int(stamp))
            self._tokens += 1
        if not answer.endswith(_LAST_CHUNK):
            return True
        if self._tokens != self._expected:
            raise LoadError(
                f"answered {self._tokens} tokens instead of {self._expected}, and at last {answer[-200:]!r}"
            )
        return self.send_next()
