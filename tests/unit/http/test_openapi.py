"""The OpenAPI document: it describes every route, and what TGI's own document describes is there."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from support.http_bench import ScriptedBatcher, make_services, says
from tgi_router.http.application import build_application
from tgi_router.openapi.kserve import KSERVE_OPERATIONS
from tgi_router.openapi.operations import OPERATIONS

TGI_FACTS = json.loads((Path(__file__).parents[2] / "fixtures" / "tgi-api.json").read_text())
"""Routes, and properties by schema, of TGI 3.3's document."""

# What TGI describes in several unnamed shapes is one here.
SAME_AS = {
    "Chunk": "Completion",
    "CompletionFinal": "Completion",
    "TextMessage": "Message",
    "ToolCallMessage": "OutputMessage",
    "ToolCallDelta": "ChatCompletionDelta",
}
UNDESCRIBED = {
    "JsonSchemaConfig": "a grammar is taken in several forms, which docs/http-api.md tells",
    "Url": "images are refused: the models served here read text",
}


async def document(start: Any, **options: Any) -> dict[str, Any]:
    bench = await start(says("x"), **options)
    reply = await bench.client.get("/api-doc/openapi.json")
    assert reply.content_type == "application/json"
    described: dict[str, Any] = await reply.json()
    return described


def test_every_route_is_in_the_table_and_nothing_else() -> None:
    application = build_application(make_services(ScriptedBatcher(), kserve=True))
    routes = {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert routes == {(each.method, each.path) for each in (*OPERATIONS, *KSERVE_OPERATIONS)}


async def test_kserve_is_described_where_it_is_served(start: Any) -> None:
    assert "/v2" not in (await document(start))["paths"]
    assert "/v2" in (await document(start, kserve=True))["paths"]


async def test_every_reference_leads_to_a_valid_schema(start: Any) -> None:
    described = await document(start, kserve=True)
    schemas = described["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    text = json.dumps(described)
    for reference in {piece.split('"')[0] for piece in text.split("#/components/schemas/")[1:]}:
        assert reference in schemas


async def test_every_example_is_what_its_schema_describes(start: Any) -> None:
    described = await document(start, kserve=True)
    for path in described["paths"].values():
        for operation in path.values():
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                schema = content["schema"] | {"components": described["components"]}
                Draft202012Validator(schema).validate(content["example"])


async def test_every_route_of_tgi_is_there(start: Any) -> None:
    paths = (await document(start))["paths"]
    missing = {
        route for route in TGI_FACTS["routes"] if route.split()[0] not in paths.get(route.split()[1], {})
    }
    assert missing == set()


@pytest.mark.parametrize("name", sorted(TGI_FACTS["schemas"].keys() - UNDESCRIBED.keys()))
async def test_every_schema_of_tgi_is_there_with_its_properties(start: Any, name: str) -> None:
    schemas = (await document(start))["components"]["schemas"]
    ours = SAME_AS.get(name, name)
    assert ours in schemas
    missing = set(TGI_FACTS["schemas"][name]) - schemas[ours]["properties"].keys()
    assert missing == set()


async def test_what_is_said_to_be_undescribed_is(start: Any) -> None:
    schemas = (await document(start))["components"]["schemas"]
    assert not UNDESCRIBED.keys() & schemas.keys()
