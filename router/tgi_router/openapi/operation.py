"""What there is to say about one route."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain"
HTML = "text/html"

TGI_TAG = "Text Generation Inference"
PAGES_TAG = "Pages"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that a route may give.

    Attributes:
        description: when it does.
        content: the type of the body by media type; of one event, for event streams. Empty: no body.
    """

    status: int
    description: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route.

    Attributes:
        path: as registered, with `{name}` for a part of it that varies.
        name: TGI's `operationId`, or one of the same kind.
        summary: a line about it.
        description: more about it.
        request: the type of the body.
        example: a body to try.
        parameters: what the parts of the path that vary stand for.
    """

    method: str
    path: str
    name: str
    summary: str
    answers: tuple[Answer, ...]
    tag: str = TGI_TAG
    description: str = ""
    request: type[Struct] | None = None
    example: Mapping[str, Any] | None = None
    parameters: Mapping[str, str] | None = None
