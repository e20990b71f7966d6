"""The one place where exceptions become responses, and events of streams that have begun."""

from dataclasses import dataclass, replace

import structlog
from aiohttp import web

from tgi_router.batching.budget import RequestTooLargeError
from tgi_router.generation import IncompleteGenerationError, OverloadedError, ShardError
from tgi_router.http.auth import UnauthorizedError
from tgi_router.http.body import BodyError
from tgi_router.http.json_response import json_response
from tgi_router.schema.errors import ErrorResponse, OpenAIError, OpenAIErrorResponse
from tgi_router.text.conversation import TemplateError
from tgi_router.validation.refusal import ValidationError

RETRY_AFTER_SECONDS = 1
OPENAI_PREFIX = "/v1/"

_OPENAI_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
# What a field of TGI's is called on the OpenAI routes, where it has another name.
_OPENAI_PARAMETERS = {"max_new_tokens": "max_tokens", "top_n_tokens": "top_logprobs", "inputs": None}

# Too slow, and too long.
_BODY_UNREAD = (408, 413)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as clients see it: TGI's status and class, whichever route it is told on."""

    status: int
    error_type: str
    message: str
    parameter: str | None = None


def describe(error: Exception) -> Problem:
    """What to tell a client. What is unexpected is logged, and not told."""
    match error:
        case BodyError():
            return Problem(error.status, error.error_type, str(error), error.parameter)
        case UnauthorizedError():
            return Problem(401, error.error_type, str(error))
        case ValidationError():
            return Problem(422, error.error_type, str(error), error.parameter)
        case TemplateError():
            return Problem(422, error.error_type, f"Template error: {error}", "messages")
        case RequestTooLargeError():
            return Problem(422, "validation", f"Input validation error: {error}")
        case OverloadedError():
            return Problem(429, error.error_type, "Model is overloaded")
        case ShardError():
            message = f"Request failed during generation: Server error: {error.public_text}"
            return Problem(424, error.error_type, message)
        case IncompleteGenerationError():
            return Problem(500, error.error_type, "Incomplete generation")
        case web.HTTPException():
            return Problem(error.status, _error_type_of_status(error.status), error.reason)
        case _:
            _log.error("a request failed unexpectedly", exc_info=error)
            return Problem(500, "internal", "Internal server error")


def describe_in_stream(error: Exception) -> Problem:
    """As `describe`, for events of a stream that has begun, where TGI names one error differently."""
    problem = describe(error)
    if isinstance(error, IncompleteGenerationError):
        return replace(
            problem, error_type="incomplete_generation_stream", message="Incomplete generation stream"
        )
    return problem


def error_response(request: web.Request, error: Exception) -> web.Response:
    """The response for an error, in the shape of the route's family."""
    problem = describe(error)
    openai = request.path.startswith(OPENAI_PREFIX)
    response = json_response(openai_body(problem) if openai else tgi_body(problem), status=problem.status)
    if problem.status == web.HTTPTooManyRequests.status_code:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if problem.status == web.HTTPUnauthorized.status_code:
        response.headers["WWW-Authenticate"] = "Bearer"
    if problem.status in _BODY_UNREAD:
        # The rest of the body is not read, so nothing else can follow on this connection.
        response.force_close()
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = error.headers["Allow"]
    return response


def tgi_body(problem: Problem) -> ErrorResponse:
    """An error as TGI's own routes tell it."""
    return ErrorResponse(problem.message, problem.error_type)


def openai_body(problem: Problem) -> OpenAIErrorResponse:
    """An error as OpenAI's clients read it, with TGI's class beside it."""
    fallback = "invalid_request_error" if problem.status < 500 and problem.status != 424 else "server_error"
    parameter = problem.parameter
    return OpenAIErrorResponse(
        OpenAIError(
            message=problem.message,
            type=_OPENAI_TYPES.get(problem.status, fallback),
            code=problem.error_type,
            param=_OPENAI_PARAMETERS.get(parameter, parameter) if parameter else None,
            http_status_code=problem.status,
        ),
        problem.error_type,
    )


def _error_type_of_status(status: int) -> str:
    return {404: "not_found", 405: "method_not_allowed"}.get(status, "http")
