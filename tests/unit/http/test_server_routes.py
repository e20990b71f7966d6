"""What the server says about itself, and to browsers."""

import threading
from typing import Any

import pytest

from support.http_bench import says
from tgi_router.http.tokenize import TOKENS_AT_ONCE
from tgi_router.schema.generate import SimpleToken


async def test_info_begins_with_tgis_keys_and_sends_nulls(start: Any) -> None:
    bench = await start()
    raw = await (await bench.client.get("/info")).read()
    assert raw.startswith(
        b'{"model_id":"org/model","model_sha":null,"model_pipeline_tag":null,"max_concurrent_requests":8,'
        b'"max_best_of":2,"max_stop_sequences":4,"max_input_tokens":1000,"max_total_tokens":1100,'
        b'"validation_workers":1,"max_client_batch_size":2,"router":"text-generation-router",'
        b'"version":"1.2.3","sha":null,"docker_label":null,'
    )


async def test_models_are_listed_with_the_time_of_the_start(start: Any) -> None:
    bench = await start()
    assert await (await bench.client.get("/v1/models")).json() == {
        "object": "list",
        "data": [{"id": "org/model", "object": "model", "created": 1_700_000_001, "owned_by": "org/model"}],
    }


@pytest.mark.parametrize("path", ["/health", "/ping", "/livez", "/readyz", "/alive", "/"])
async def test_health_is_empty_or_says_what_is_wrong(start: Any, path: str) -> None:
    bench = await start(aip_health_route="/alive")
    reply = await bench.client.get(path)
    assert (reply.status, await reply.read()) == (200, b"")
    assert (await bench.client.head(path)).status == 200
    bench.health.fault = "a shard is gone"
    reply = await bench.client.get(path)
    assert reply.status == 503
    assert await reply.json() == {"error": "unhealthy: a shard is gone", "error_type": "healthcheck"}


async def test_metrics_are_prometheus_text(start: Any) -> None:
    bench = await start(says("a"))
    await bench.generate()
    reply = await bench.client.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert "\ntgi_request_success 1\n" in await reply.text()


async def test_tokenize_lists_tokens_with_byte_places(start: Any) -> None:
    bench = await start()
    body = {"inputs": "hé", "parameters": {"truncate": 1}}
    reply = await bench.post("/tokenize", body)
    tokens = await reply.json()
    assert list(tokens[0]) == ["id", "text", "start", "stop"]
    assert [(token["text"], token["start"], token["stop"]) for token in tokens] == [
        ("", 0, 0),
        ("h", 0, 1),
        ("é", 1, 3),
        ("é", 1, 3),
    ]
    assert "x-compute-type" not in reply.headers
    assert bench.sample("tgi_request_count") == 0


async def test_tokenize_takes_an_empty_text(start: Any) -> None:
    bench = await start()
    assert len(await (await bench.post("/tokenize", {"inputs": ""})).json()) == 1


async def test_a_long_text_is_tokenized_and_written_beside_the_event_loop(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = set()

    def watched(*fields: Any) -> SimpleToken:
        writers.add(threading.get_ident())
        return SimpleToken(*fields)

    monkeypatch.setattr("tgi_router.http.tokenize.SimpleToken", watched)
    bench = await start()
    assert (await bench.post("/tokenize", {"inputs": "x" * 5000})).status == 200
    assert writers
    assert threading.get_ident() not in writers


async def test_a_long_text_has_all_its_tokens_once(start: Any) -> None:
    bench = await start()
    text = "".join(chr(ord("a") + place % 26) for place in range(3 * TOKENS_AT_ONCE))
    tokens = await (await bench.post("/tokenize", {"inputs": text})).json()
    assert "".join(token["text"] for token in tokens) == text
    assert [token["start"] for token in tokens] == [0, *range(len(text))]


@pytest.mark.parametrize("path", ["/generate", "/no/such/path"])
async def test_a_preflight_is_answered_on_any_path(start: Any, path: str) -> None:
    bench = await start()
    headers = {"Origin": "http://page", "Access-Control-Request-Headers": "authorization, content-type"}
    reply = await bench.client.options(path, headers=headers)
    assert (reply.status, await reply.read()) == (200, b"")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-allow-methods"] == "GET,POST"
    assert reply.headers["access-control-allow-headers"] == "authorization, content-type"
    assert int(reply.headers["access-control-max-age"]) > 0


async def test_pages_may_read_what_an_answer_took(start: Any) -> None:
    bench = await start(says("a"))
    reply = await bench.post("/generate", {"inputs": "hi"}, headers={"Origin": "http://page"})
    exposed = set(reply.headers["access-control-expose-headers"].split(", "))
    assert {name.lower() for name in reply.headers if name.lower().startswith("x-")} <= exposed


async def test_every_response_names_who_may_read_it(start: Any) -> None:
    bench = await start(says("a"))
    for reply in (
        await bench.client.get("/health"),
        await bench.client.get("/no/such"),
        await bench.post("/generate_stream", {"inputs": "hi"}),
    ):
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers["vary"] == (
            "origin, access-control-request-method, access-control-request-headers"
        )


async def test_with_a_list_of_origins_only_those_are_echoed(start: Any) -> None:
    bench = await start(cors_allow_origin=("http://a", "http://b"))
    assert "access-control-allow-origin" not in (await bench.client.get("/health")).headers
    reply = await bench.client.get("/health", headers={"Origin": "http://b"})
    assert reply.headers["access-control-allow-origin"] == "http://b"
    reply = await bench.client.get("/health", headers={"Origin": "http://c"})
    assert "access-control-allow-origin" not in reply.headers
