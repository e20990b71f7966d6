"""GET /docs, /chat and /api-doc/openapi.json: to read and to try the API, with nothing from elsewhere."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aiohttp import web
from msgspec import json

from tgi_router.http.services import Services
from tgi_router.openapi.document import build_document
from tgi_router.openapi.kserve import KSERVE_OPERATIONS
from tgi_router.openapi.operations import OPERATIONS

PAGES = Path(__file__).parents[1] / "pages"
DOCS_FILES = ("docs/docs.css", "docs/docs.js", "swagger/swagger-ui-bundle.js", "swagger/swagger-ui.css")
CHAT_FILES = tuple(
    f"chat/{name}" for name in ("chat.css", "main.js", "api.js", "answer.js", "settings.js", "tokens.js")
)
CONTENT_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}

HEADERS = {
    # Only what this server sends is run or shown. Swagger UI's style sheet holds its icons as `data:` URLs.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Kept by browsers, and asked for anew each time: the answer is 304 until the server is another.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent.

    Attributes:
        etag: names these bytes.
    """

    body: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, body: bytes, content_type: str) -> Self:
        """Bytes of some type."""
        return cls(body, content_type, hashlib.sha256(body).hexdigest()[:32])

    @classmethod
    def read(cls, path: Path) -> Self:
        """A file of the package, typed by its name."""
        return cls.of(path.read_bytes(), CONTENT_TYPES[path.suffix])

    def response(self, request: web.Request) -> web.Response:
        """The file, or word that the client has it already."""
        known = any(etag.value == self.etag for etag in request.if_none_match or ())
        response = web.Response(status=304, headers=HEADERS) if known else self._whole()
        response.etag = self.etag
        return response

    def _whole(self) -> web.Response:
        charset = None if self.content_type == "application/json" else "utf-8"
        return web.Response(body=self.body, content_type=self.content_type, charset=charset, headers=HEADERS)


class PageRoutes:
    """The pages, read once. A name that is not in the table of files is not looked for on the disk."""

    def __init__(self, services: Services) -> None:
        operations = [*OPERATIONS, *(KSERVE_OPERATIONS if services.options.kserve else ())]
        document = build_document(operations, services.info.version)
        self._document = Asset.of(json.encode(document), "application/json")
        self._docs = Page("docs", DOCS_FILES)
        self._chat = Page("chat", CHAT_FILES)

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of them."""
        return [web.get("/api-doc/openapi.json", self.document), *self._docs.routes(), *self._chat.routes()]

    async def document(self, request: web.Request) -> web.Response:
        """The OpenAPI document."""
        return self._document.response(request)


class Page:
    """A page and the files that it consists of.

    Args:
        name: its path and its folder, where `index.html` is.
        files: the others, relative to the folder of all pages.
    """

    def __init__(self, name: str, files: Iterable[str]) -> None:
        self._name = name
        self._index = Asset.read(PAGES / name / "index.html")
        self._files: Mapping[str, Asset] = {Path(file).name: Asset.read(PAGES / file) for file in files}

    def routes(self) -> Iterable[web.RouteDef]:
        """The page, and its files below it."""
        return [web.get(f"/{self._name}", self.index), web.get(f"/{self._name}/{{name:.*}}", self.file)]

    async def index(self, request: web.Request) -> web.Response:
        """The page itself."""
        return self._index.response(request)

    async def file(self, request: web.Request) -> web.Response:
        """One of its files; TGI's address of a page ends with a slash, and leads to the page."""
        name = request.match_info["name"]
        if not name:
            # Relative, so that it holds behind a proxy that puts the server below a path.
            return web.Response(status=308, headers={"Location": f"../{self._name}"})
        if name not in self._files:
            raise web.HTTPNotFound
        return self._files[name].response(request)
