"""A plain HTTP client for tests: shows status, headers and bytes as sent, and can hang up any moment."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

TIMEOUT_SECONDS = 60.0
JSON_HEADERS = {"content-type": "application/json"}


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class EventStream:
    """An open answer of server-sent events; closing it hangs up at once, whatever is still to come."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._socket: socket.socket = connection.sock
        self._response = connection.getresponse()
        self.status = self._response.status
        self.headers = self._response.headers
        self.done = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        """Yield each event's JSON and note `[DONE]` in `done`; fail on what TGI's framing does not allow."""
        while line := self._response.readline():
            if line == b":\n":
                assert self._response.readline() == b"\n", "a keep-alive must end with an empty line"
                continue
            assert not self.done, f"something follows [DONE]: {line!r}"
            assert line.startswith(b"data: "), f"not an event: {line!r}"
            assert self._response.readline() == b"\n", "an event must end with an empty line"
            payload = line[len(b"data: ") :]
            if payload == b"[DONE]\n":
                self.done = True
            else:
                yield json.loads(payload)

    def read(self) -> bytes:
        """Read what is left, unparsed."""
        return self._response.read()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._response.close()
        self._connection.close()
        self._socket.close()


@dataclass(frozen=True)
class Api:
    """The HTTP API of one server. Every call opens a connection of its own."""

    port: int
    host: str = "127.0.0.1"
    timeout: float = field(default=TIMEOUT_SECONDS)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a GET."""
        return self.request("GET", path, None, headers or {})

    def post(self, path: str, body: Any, headers: Mapping[str, str] = JSON_HEADERS) -> Reply:
        """Send a POST; `bytes` go out as they are, anything else as JSON."""
        return self.request("POST", path, _encoded(body), headers)

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """Send a request and read the whole answer."""
        with contextlib.closing(self._connection()) as connection:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())

    def stream(self, path: str, body: Any) -> EventStream:
        """Send a POST and return as soon as the answer's headers are there."""
        return EventStream(self.start(path, body))

    def start(self, path: str, body: Any) -> http.client.HTTPConnection:
        """Send a POST and wait for nothing; closing the connection hangs up."""
        connection = self._connection()
        connection.connect()
        connection.request("POST", path, _encoded(body), dict(JSON_HEADERS))
        return connection

    def generate(self, inputs: str, **parameters: Any) -> dict[str, Any]:
        """POST /generate with `details`, which must succeed."""
        reply = self.post("/generate", {"inputs": inputs, "parameters": {"details": True} | parameters})
        assert reply.status == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def generate_events(self, inputs: str, **parameters: Any) -> list[dict[str, Any]]:
        """POST /generate_stream with `details`; return all its events."""
        body = {"inputs": inputs, "parameters": {"details": True} | parameters}
        with self.stream("/generate_stream", body) as stream:
            assert stream.status == 200, stream.read()
            return list(stream)

    def chat(self, content: str, **fields: Any) -> dict[str, Any]:
        """POST a chat of one user message, greedy unless `fields` say otherwise; it must succeed."""
        body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 40}
        reply = self.post("/v1/chat/completions", body | fields)
        assert reply.status == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()
