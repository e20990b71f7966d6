"""With API keys, everything asks for one but what tells of health."""

from typing import Any

import pytest

from support.http_bench import says

KEYS = ("key-One", "key-two")
HELLO = {"inputs": "hi"}


def bearer(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {key}"}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_any_of_the_keys_opens(start: Any, key: str, scheme: str) -> None:
    bench = await start(says("a"), api_keys=KEYS)
    reply = await bench.post("/generate", HELLO, headers=bearer(key, scheme))
    assert reply.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("key-one"),
        bearer("key-Onex"),
        bearer("key-One,key-two"),
        bearer("clé"),
        bearer("key-One", "Basic"),
        {"Authorization": "key-One"},
        {"X-Api-Key": "key-One"},
    ],
)
async def test_without_one_of_them_it_is_401(start: Any, headers: dict[str, str]) -> None:
    bench = await start(says("a"), api_keys=KEYS)
    reply = await bench.post("/generate", HELLO, headers=headers)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert (await reply.json())["error_type"] == "invalid_api_key"
    assert bench.sample("tgi_request_count") == 0


async def test_openai_routes_tell_it_in_openais_shape(start: Any) -> None:
    bench = await start(api_keys=KEYS)
    reply = await bench.post("/v1/chat/completions", {})
    error = (await reply.json())["error"]
    assert (reply.status, error["code"], error["type"]) == (401, "invalid_api_key", "authentication_error")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("POST", path)
            for path in ("/", "/generate_stream", "/tokenize", "/chat_tokenize", "/invocations", "/vertex")
        ),
        *(("GET", path) for path in ("/info", "/v1/models", "/no/such", "/v2", "/v2/models/x", "/health/x")),
        *(("POST", path) for path in ("/health", "/v2/models/x/infer", "/predict", "/v1/completions")),
    ],
)
async def test_everything_else_is_closed(start: Any, method: str, path: str) -> None:
    bench = await start(api_keys=KEYS, kserve=True, aip_predict_route="/predict")
    assert (await bench.client.request(method, path)).status == 401


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/health", "/ping", "/livez", "/readyz", "/alive", "/metrics"),
        *("/v2/health/live", "/v2/health/ready", "/v2/models/x/ready", "/v2/models/x/versions/1/ready"),
    ],
)
async def test_health_and_metrics_are_open(start: Any, path: str) -> None:
    bench = await start(api_keys=KEYS, kserve=True, aip_health_route="/alive")
    assert (await bench.client.get(path)).status == 200
    assert (await bench.client.head(path)).status == 200


async def test_metrics_can_be_closed(start: Any) -> None:
    bench = await start(api_keys=KEYS, protect_metrics=True)
    assert (await bench.client.get("/metrics")).status == 401
    assert (await bench.client.get("/metrics", headers=bearer("key-two"))).status == 200


async def test_vertex_cannot_open_a_route_that_is_closed(start: Any) -> None:
    bench = await start(api_keys=KEYS, aip_health_route="/info")
    assert (await bench.client.get("/info")).status == 401


async def test_a_preflight_needs_no_key_and_the_401_can_be_read_by_pages(start: Any) -> None:
    bench = await start(api_keys=KEYS)
    assert (await bench.client.options("/generate", headers={"Origin": "http://a"})).status == 200
    reply = await bench.post("/generate", HELLO, headers={"Origin": "http://a"})
    assert reply.headers["access-control-allow-origin"] == "*"


async def test_without_keys_the_header_is_not_looked_at(start: Any) -> None:
    bench = await start(says("a"))
    assert (await bench.post("/generate", HELLO, headers=bearer("whatever"))).status == 200
