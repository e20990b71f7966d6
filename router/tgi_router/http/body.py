"""Reads a request's JSON body, within the limits."""

import re
from typing import TypeVar

from aiohttp import web
from msgspec import DecodeError, ValidationError
from msgspec.json import Decoder

T = TypeVar("T")

MAX_DEPTH = 256
"""Levels of lists and objects in a body: more than `--max-schema-depth` lets a schema have."""
DEEPLY_NESTED = f"the JSON is nested too deeply: more than {MAX_DEPTH} levels"

_STRING = re.compile(rb'"(?:[^"\\]+|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))


class BodyError(Exception):
    """The body cannot be used. The statuses are TGI's.

    Attributes:
        status: the HTTP status.
        error_type: TGI has none for these; the words are ours.
        parameter: the field that is wrong, as a path without the leading `$.`.
    """

    def __init__(self, status: int, error_type: str, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.parameter = parameter


async def read_json(request: web.Request, decoder: Decoder[T], limit: int) -> T:
    """The body as the decoder's type.

    Raises:
        BodyError: as `read_body` and `decode_json`.
    """
    return decode_json(await read_body(request, limit), decoder)


async def read_body(request: web.Request, limit: int) -> bytes:
    """The body, of which the headers say that it is JSON.

    Raises:
        BodyError: 415 for another content type or a compressed body, 413 for more than `limit` bytes, 400 for
            one that is not what its headers say.
    """
    content_type = request.content_type
    if content_type != "application/json" and not (
        content_type.startswith("application/") and content_type.endswith("+json")
    ):
        message = "the body must be JSON, sent with `content-type: application/json`"
        raise BodyError(415, "unsupported_media_type", message)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BodyError(415, "unsupported_media_type", "the body must not be compressed")
    return await _read(request, limit)


def decode_json(body: bytes, decoder: Decoder[T], root: str = "$") -> T:
    """JSON as the decoder's type.

    Args:
        body: the JSON.
        decoder: of the type.
        root: what stands for the value in the path of a fault.

    Raises:
        BodyError: 400 for what is not JSON or nested too deeply, 422 for JSON of another shape, with the path
            of the fault.
    """
    try:
        check_depth(body)
        return decoder.decode(body)
    except ValidationError as error:
        # msgspec ends its message with the path, unless the fault is in the outermost object.
        fault, _, path = str(error).partition(" - at `$")
        path = root + path.removesuffix("`")
        message = f"Input validation error: {fault}" + ("" if path == "$" else f" - at `{path}`")
        raise BodyError(
            422, "validation", message, path.removeprefix("$").removeprefix(".") or None
        ) from None
    except RecursionError:
        raise BodyError(400, "invalid_json", DEEPLY_NESTED) from None
    except UnicodeDecodeError as error:
        message = f"the body is not valid UTF-8: {error.reason}"
        raise BodyError(400, "invalid_json", message) from None
    except DecodeError as error:
        raise BodyError(400, "invalid_json", f"the body is not valid JSON: {error}") from None


def check_depth(body: bytes) -> None:
    """Refuse JSON that is nested more than MAX_DEPTH deep, without walking through it in Python.

    Raises:
        BodyError: it is.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    # Each round takes the innermost level away.
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return
    raise BodyError(400, "invalid_json", DEEPLY_NESTED)


async def _read(request: web.Request, limit: int) -> bytes:
    """The whole body; refused by its announced length, before it is read, or by its real one."""
    # TGI's clients look for the last three words.
    too_long = BodyError(413, "payload_too_large", f"the body exceeds {limit} bytes: length limit exceeded")
    if (request.content_length or 0) > limit:
        raise too_long
    body = bytearray()
    try:
        while chunk := await request.content.readany():
            body += chunk
            if len(body) > limit:
                raise too_long
    except web.RequestPayloadError:
        # Its length, its chunks or its compression are not what the headers say.
        raise BodyError(400, "invalid_body", "the body does not arrive as its headers announce") from None
    return bytes(body)
