"""The routes of KServe's protocol, which are there with --kserve only."""

from collections.abc import Sequence
from typing import Any

from tgi_router.http.kserve import MODEL, VERSION
from tgi_router.openapi.operation import JSON, Answer, Operation
from tgi_router.openapi.operations import generation_errors
from tgi_router.schema.errors import ErrorResponse
from tgi_router.schema.platforms import KServeLive, KServeMetadata, KServeRequest, KServeResponse


def kserve_health(path: str, name: str, parameters: dict[str, str] | None = None) -> Operation:
    """A health route of KServe's."""
    return Operation(
        method="GET",
        path=path,
        name=name,
        summary="Health check of KServe's protocol",
        parameters=parameters,
        answers=(
            Answer(200, "Requests can be answered", {JSON: KServeLive}),
            Answer(503, "They cannot, and why", {JSON: ErrorResponse}),
        ),
    )


def kserve_metadata(path: str, name: str, parameters: dict[str, str] | None = None) -> Operation:
    """What KServe's protocol tells of server and model."""
    return Operation(
        method="GET",
        path=path,
        name=name,
        summary="Metadata of KServe's protocol",
        parameters=parameters,
        answers=(Answer(200, "What there is", {JSON: KServeMetadata}),),
    )


def kserve_infer(path: str, name: str, parameters: dict[str, str]) -> Operation:
    """KServe's inference."""
    return Operation(
        method="POST",
        path=path,
        name=name,
        summary="Generate, as KServe's protocol asks it",
        request=KServeRequest,
        example=KSERVE,
        parameters=parameters,
        answers=(
            Answer(200, "The texts, as bytes", {JSON: KServeResponse}),
            *generation_errors(ErrorResponse),
        ),
    )


KSERVE: dict[str, Any] = {
    "id": "1",
    "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": [72, 105]}],
    "outputs": [{"name": "text"}],
    "parameters": {"max_new_tokens": 5},
}
OF_MODEL = {"name": "Any name: the platform's own"}
OF_VERSION = OF_MODEL | {"version": "Any version: the platform's own"}

KSERVE_OPERATIONS: Sequence[Operation] = (
    kserve_metadata("/v2", "kserve_server"),
    kserve_metadata(MODEL, "kserve_model", OF_MODEL),
    kserve_metadata(VERSION, "kserve_model_version", OF_VERSION),
    kserve_health("/v2/health/live", "kserve_live"),
    kserve_health("/v2/health/ready", "kserve_ready"),
    kserve_health(MODEL + "/ready", "kserve_model_ready", OF_MODEL),
    kserve_health(VERSION + "/ready", "kserve_version_ready", OF_VERSION),
    kserve_infer(MODEL + "/infer", "kserve_model_infer", OF_MODEL),
    kserve_infer(VERSION + "/infer", "kserve_version_infer", OF_VERSION),
)
