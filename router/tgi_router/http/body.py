"""Reads a request's JSON body, within the limits."""

from typing import TypeVar

from aiohttp import web
from msgspec import DecodeError, ValidationError
from msgspec.json import Decoder

T = TypeVar("T")

DEEPLY_NESTED = "the JSON is nested too deeply"


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
        BodyError: 415 for another content type, 413 for more than `limit` bytes, 400 for what is not JSON,
            422 for JSON of another shape, with the path of the fault.
    """
    content_type = request.content_type
    if content_type != "application/json" and not (
        content_type.startswith("application/") and content_type.endswith("+json")
    ):
        message = "the body must be JSON, sent with `content-type: application/json`"
        raise BodyError(415, "unsupported_media_type", message)
    body = await _read(request, limit)
    try:
        return decoder.decode(body)
    except ValidationError as error:
        # msgspec ends its message with the path, unless the fault is in the outermost object.
        _, _, path = str(error).partition(" - at `$.")
        message = f"Input validation error: {error}"
        raise BodyError(422, "validation", message, path.removesuffix("`") or None) from None
    except RecursionError:
        raise BodyError(400, "invalid_json", DEEPLY_NESTED) from None
    except UnicodeDecodeError as error:
        message = f"the body is not valid UTF-8: {error.reason}"
        raise BodyError(400, "invalid_json", message) from None
    except DecodeError as error:
        raise BodyError(400, "invalid_json", f"the body is not valid JSON: {error}") from None


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
