"""Bodies of errors: TGI's two strings, and OpenAI's object with TGI's class beside it."""

from msgspec import Struct


class ErrorResponse(Struct):
    """An error on TGI's own routes."""

    error: str
    error_type: str


class OpenAIError(Struct):
    """The object that OpenAI's clients read; `http_status_code` is TGI's addition to it."""

    message: str
    type: str
    code: str
    param: str | None
    http_status_code: int


class OpenAIErrorResponse(Struct):
    """An error on the /v1 routes."""

    error: OpenAIError
    error_type: str
