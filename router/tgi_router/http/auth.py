"""API keys: everything asks for one but what is listed as open."""

import hashlib
import hmac
from collections.abc import Collection, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


class UnauthorizedError(Exception):
    """The request shows no key, or a wrong one: HTTP 401."""

    error_type = "invalid_api_key"


def require_key(keys: Sequence[str], open_paths: Collection[str]) -> Middleware:
    """A middleware that refuses requests without one of the keys.

    Args:
        keys: what may stand behind `Authorization: Bearer`.
        open_paths: routes that anyone may GET.
    """
    # Digests are all of the same length, so that comparing them tells nothing, not even how long a key is.
    digests = [_digest(key) for key in keys]

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not (_is_open(request, open_paths) or _knows(digests, _shown_key(request))):
            raise UnauthorizedError("send `Authorization: Bearer <key>` with a valid API key")
        return await handler(request)

    return check


def _is_open(request: web.Request, open_paths: Collection[str]) -> bool:
    # By the route that was found, not by how its path was written.
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical in open_paths and request.method in ("GET", "HEAD")


def _shown_key(request: web.Request) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _knows(digests: Sequence[bytes], key: str) -> bool:
    """Whether a key is one of them; takes as long whichever it is."""
    shown = _digest(key)
    return sum(hmac.compare_digest(shown, digest) for digest in digests) > 0


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
