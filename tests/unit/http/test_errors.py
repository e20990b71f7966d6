"""What a client is told when its request cannot be served."""

from typing import Any
from unittest.mock import AsyncMock

import pytest

from support.http_bench import says
from tgi_router.batching.budget import RequestTooLargeError
from tgi_router.client.shard import ShardTimeoutError, ShardUnavailableError
from tgi_router.generation import OverloadedError, ShardError
from tgi_router.text.workers import TextWorkers

JSON = {"content-type": "application/json"}
POSTS = ["/", "/generate", "/generate_stream", "/tokenize", "/v1/chat/completions", "/v1/completions"]
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    "/": {"inputs": "hi"},
    "/generate": {"inputs": "hi"},
    "/generate_stream": {"inputs": "hi"},
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "hi"},
}


def text_of(body: dict[str, Any]) -> str:
    error = body["error"]
    return error["message"] if isinstance(error, dict) else error


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"\xff\xfe{}", b'{"model": "x"'])
async def test_what_is_not_json_is_400(start: Any, path: str, body: bytes) -> None:
    bench = await start()
    reply = await bench.client.post(path, data=body, headers=JSON)
    assert (reply.status, (await reply.json())["error_type"]) == (400, "invalid_json")


@pytest.mark.parametrize("body", [b'{"inputs":"\\ud800"}', b'{"inputs":"\xff"}', b'{"inputs":"a"} x'])
async def test_text_that_is_not_unicode_or_more_than_one_value_is_400(start: Any, body: bytes) -> None:
    bench = await start()
    reply = await bench.client.post("/generate", data=body, headers=JSON)
    assert (reply.status, (await reply.json())["error_type"]) == (400, "invalid_json")


async def test_deep_nesting_is_400(start: Any) -> None:
    bench = await start()
    body = b'{"inputs":"a","other":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    reply = await bench.client.post("/generate", data=body, headers=JSON)
    assert reply.status == 400
    assert "nested too deeply" in (await reply.json())["error"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
async def test_a_compressed_body_is_415(start: Any, encoding: str) -> None:
    bench = await start()
    headers = JSON | {"content-encoding": encoding}
    reply = await bench.client.post("/generate", data=b"0123456789", headers=headers)
    assert (reply.status, (await reply.json())["error_type"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded"]
)
async def test_another_content_type_is_415(start: Any, content_type: str) -> None:
    bench = await start()
    reply = await bench.client.post("/generate", data=b"{}", headers={"content-type": content_type})
    assert (reply.status, (await reply.json())["error_type"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/problem+json"])
async def test_json_by_any_name_is_taken(start: Any, content_type: str) -> None:
    bench = await start(says("a"))
    reply = await bench.client.post(
        "/generate", data=b'{"inputs":"a"}', headers={"content-type": content_type}
    )
    assert reply.status == 200


async def test_a_body_at_the_limit_passes_and_one_byte_more_is_413(start: Any) -> None:
    bench = await start(says("a"), payload_limit=100)
    body = b'{"inputs":"a"}'.ljust(100)
    assert (await bench.client.post("/generate", data=body, headers=JSON)).status == 200
    reply = await bench.client.post("/generate", data=body + b" ", headers=JSON)
    assert reply.status == 413
    assert (await reply.json())["error"].endswith("length limit exceeded")


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(start: Any) -> None:
    bench = await start(says("a"), payload_limit=100)
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 50_000_000:
            sent += 1000
            yield b" " * 1000

    reply = await bench.client.post("/generate", data=endless(), headers=JSON)
    assert reply.status == 413
    assert sent < 50_000_000


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/generate", {"inputs": "a", "parameters": {"temperature": "x"}}, "`$.parameters.temperature`"),
        ("/generate", {"inputs": "a", "parameters": {"temperature": 1e39}}, "`$.parameters.temperature`"),
        ("/generate", {"inputs": "a", "parameters": {"seed": 2**64}}, "seed"),
        ("/generate", {"inputs": "a", "parameters": None}, "`$.parameters`"),
        ("/generate", {"inputs": "a", "parameters": {"stop": "x"}}, "`$.parameters.stop`"),
        ("/generate", {}, "`inputs`"),
        ("/", {"inputs": "a", "stream": None}, "`$.stream`"),
        ("/tokenize", {"inputs": 1}, "`$.inputs`"),
        ("/v1/completions", {"prompt": [1, "a"]}, "`$.prompt[1]`"),
        ("/v1/completions", {"prompt": [True]}, "`$.prompt[0]`"),
        ("/v1/completions", {"prompt": "a", "stream_options": 1}, "`$.stream_options`"),
    ],
)
async def test_a_wrong_type_is_422_with_its_path(
    start: Any, path: str, body: dict[str, Any], place: str
) -> None:
    bench = await start()
    reply = await bench.post(path, body)
    assert reply.status == 422
    answer = await reply.json()
    assert answer["error_type"] == "validation"
    assert place in text_of(answer)


async def test_openai_routes_name_the_field_in_param(start: Any) -> None:
    bench = await start()
    reply = await bench.post("/v1/chat/completions", {"messages": [{"role": 5, "content": "x"}]})
    assert await reply.json() == {
        "error": {
            "message": "Input validation error: Expected `str`, got `int` - at `$.messages[0].role`",
            "type": "invalid_request_error",
            "code": "validation",
            "param": "messages[0].role",
            "http_status_code": 422,
        },
        "error_type": "validation",
    }


async def test_a_validation_error_is_told_before_a_stream_begins(start: Any) -> None:
    bench = await start(says("a"))
    body = {"inputs": "hi", "parameters": {"temperature": 0}}
    reply = await bench.post("/generate_stream", body)
    assert reply.status == 422
    assert await reply.json() == {
        "error": "Input validation error: `temperature` must be strictly positive",
        "error_type": "validation",
    }
    assert bench.sample('tgi_request_failure{err="validation"}') == 1
    assert bench.sample('tgi_request_refused{reason="validation"}') == 1
    assert bench.inference.free_permits == 8


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_overload_is_429_with_retry_after_before_a_stream_begins(
    start: Any, path: str, stream: bool
) -> None:
    bench = await start(says("a"), max_concurrent_requests=1)
    with bench.inference.acquire():
        reply = await bench.post(path, BODIES[path] | {"stream": stream})
    assert reply.status == 429
    assert int(reply.headers["retry-after"]) >= 1
    assert text_of(await reply.json()) == "Model is overloaded"
    assert (await reply.json())["error_type"] == "overloaded"


async def test_openai_clients_read_overload_as_a_rate_limit(start: Any) -> None:
    bench = await start(says("a"), max_concurrent_requests=1)
    with bench.inference.acquire():
        reply = await bench.post("/v1/chat/completions", CHAT)
    error = (await reply.json())["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "overloaded")


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/v1/completions"])
async def test_a_shards_failure_is_424_with_its_words(start: Any, path: str) -> None:
    bench = await start(lambda _: [ShardError("out of memory")])
    reply = await bench.post(path, BODIES[path])
    assert reply.status == 424
    assert text_of(await reply.json()) == "Request failed during generation: Server error: out of memory"
    assert (await reply.json())["error_type"] == "generation"


@pytest.mark.parametrize("kind", [ShardUnavailableError, ShardTimeoutError])
async def test_clients_are_not_told_where_a_shards_socket_is(start: Any, kind: type[ShardError]) -> None:
    bench = await start(lambda _: [kind("the shard at /tmp/secret-0 is gone")])
    for path in ("/generate", "/generate_stream", "/v1/completions"):
        told = await (await bench.post(path, BODIES[path])).text()
        assert "a shard " in told
        assert "secret" not in told


async def test_a_request_that_never_fits_is_422(start: Any) -> None:
    bench = await start(says("a"))
    bench.batcher.refusal = RequestTooLargeError("needs 9 blocks of 5")
    for path in ("/generate", "/generate_stream"):
        reply = await bench.post(path, {"inputs": "hi"})
        assert (reply.status, (await reply.json())["error_type"]) == (422, "validation")
    assert bench.inference.free_permits == 8
    assert bench.sample('tgi_request_failure{err="validation"}') == 2


async def test_what_is_unexpected_is_500_without_its_words(start: Any) -> None:
    bench = await start()
    bench.batcher.refusal = RuntimeError("secret detail")
    reply = await bench.post("/generate", {"inputs": "hi"})
    assert reply.status == 500
    assert await reply.json() == {"error": "Internal server error", "error_type": "internal"}
    assert bench.inference.free_permits == 8


async def test_unknown_paths_and_methods(start: Any) -> None:
    bench = await start()
    assert (await bench.client.get("/no/such")).status == 404
    reply = await bench.client.get("/generate")
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"
    assert (await reply.json())["error_type"] == "method_not_allowed"
    reply = await bench.client.get("/v1/no/such")
    assert (await reply.json())["error"]["type"] == "not_found_error"


async def test_too_many_texts_waiting_for_a_worker_is_overload_too(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await start(says("a"))
    monkeypatch.setattr(TextWorkers, "run", AsyncMock(side_effect=OverloadedError("Model is overloaded")))
    for path, body in (("/v1/chat/completions", CHAT), ("/tokenize", {"inputs": "x" * 5000})):
        reply = await bench.post(path, body)
        assert reply.status == 429
    assert bench.sample('tgi_request_refused{reason="overloaded"}') == 1
    assert bench.inference.free_permits == 8
