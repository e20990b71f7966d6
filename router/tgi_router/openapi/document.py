"""Puts the document together."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from tgi_router.openapi.components import component_schemas
from tgi_router.openapi.operation import EVENTS, JSON, PAGES_TAG, TGI_TAG, Answer, Operation

OPENAPI_VERSION = "3.1.0"
API_KEY = "ApiKey"


def build_document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The OpenAPI document of some routes.

    Args:
        operations: the routes.
        version: of the server.
    """
    requests = [operation.request for operation in operations if operation.request is not None]
    responses = [
        kind for operation in operations for answer in operation.answers for kind in answer.content.values()
    ]
    schemas, components = component_schemas(requests, responses)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Text Generation Inference",
            "description": "Serves a language model. Fields of a body that are not listed are ignored.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
            "version": version,
        },
        "tags": [
            {"name": TGI_TAG, "description": "The API"},
            {"name": PAGES_TAG, "description": "Pages to read and to try it"},
        ],
        # A key is needed only where the server was started with one.
        "security": [{}, {API_KEY: []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {API_KEY: {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": operation.name,
    }
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "description": words, "schema": {"type": "string"}}
            for name, words in operation.parameters.items()
        ]
    if operation.request is not None:
        described["requestBody"] = _request_body(operation.request, operation.example, schemas)
    described["responses"] = {str(answer.status): _answer(answer, schemas) for answer in operation.answers}
    return described


def _request_body(
    kind: type[Struct], example: Mapping[str, Any] | None, schemas: Mapping[Any, Any]
) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schemas[kind]}
    if example is not None:
        content["example"] = example
    return {"required": True, "content": {JSON: content}}


def _answer(answer: Answer, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.content:
        described["content"] = {
            media: {"schema": event(schemas[kind]) if media == EVENTS else schemas[kind]}
            for media, kind in answer.content.items()
        }
    return described


def event(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A server-sent event whose data is JSON, as OpenAPI 3.2 describes streams of them."""
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
    return {"type": "object", "required": ["data"], "properties": {"data": data}}
