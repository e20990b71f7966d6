"""A small stand-in for the Hugging Face Hub: the routes that huggingface_hub calls to read a model."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_API = re.compile(r"/api/models/(?P<id>[^/]+(?:/[^/]+)?)(?:/(?P<kind>revision|tree)/(?P<revision>[^/]+))?")
_RESOLVE = re.compile(r"/(?P<id>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


@dataclass
class Repository:
    """One model; `token` makes it private, `gated` refuses its files to everybody."""

    files: dict[str, bytes]
    token: str | None = None
    gated: bool = False
    revisions: tuple[str, ...] = ("main",)

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


@dataclass
class Hub:
    """What the server serves, what it was asked, and how it misbehaves."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    failures: list[HTTPStatus] = field(default_factory=list)
    """Statuses that the next requests get instead of an answer, in order."""
    aborted_downloads: int = 0
    """How many of the next downloads break off half-way."""

    def downloaded(self) -> set[str]:
        """Names of the files that were fetched so far."""
        matches = (_RESOLVE.fullmatch(line.removeprefix("GET ")) for line in self.requests)
        return {match["name"] for match in matches if match}


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.hub.requests.append(f"{self.command} {path}")
        if self.server.hub.failures:
            return self.answer(self.server.hub.failures.pop(0))
        match = _API.fullmatch(path) or _RESOLVE.fullmatch(path)
        repository = self.server.hub.repositories.get(match["id"]) if match else None
        if match is None or repository is None or not self.may_see(repository):
            return self.answer(HTTPStatus.UNAUTHORIZED, code="RepoNotFound")
        if (match["revision"] or "main") not in (*repository.revisions, repository.commit):
            return self.answer(HTTPStatus.NOT_FOUND, code="RevisionNotFound")
        if match.re is _API:
            return self.answer_api(match["kind"], match["id"], repository)
        return self.answer_file(match["name"], repository)

    def may_see(self, repository: Repository) -> bool:
        return repository.token in (None, self.headers.get("Authorization", "").removeprefix("Bearer "))

    def answer_api(self, kind: str | None, name: str, repository: Repository) -> None:
        files = repository.files
        siblings = [{"rfilename": path} for path in files]
        answer: object = {"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings}
        if kind == "tree":
            answer = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
        self.answer(HTTPStatus.OK, json.dumps(answer).encode(), **{"Content-Type": "application/json"})

    def answer_file(self, name: str, repository: Repository) -> None:
        if repository.gated:
            return self.answer(HTTPStatus.FORBIDDEN, code="GatedRepo")
        if name not in repository.files:
            return self.answer(HTTPStatus.NOT_FOUND, code="EntryNotFound")
        data = repository.files[name]
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "X-Repo-Commit": repository.commit,
            "X-Linked-Size": str(len(data)),
        }
        return self.answer(HTTPStatus.OK, data, **headers)

    def answer(self, status: HTTPStatus, body: bytes = b"", code: str = "", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if "ETag" in headers and self.server.hub.aborted_downloads > 0:
            self.server.hub.aborted_downloads -= 1
            self.wfile.write(body[: len(body) // 2])
            return
        self.wfile.write(body)


@contextmanager
def run_hub() -> Iterator[Hub]:
    """Serve until the block ends; nobody reaches it afterwards."""
    hub = Hub()
    server = _Server(hub)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
