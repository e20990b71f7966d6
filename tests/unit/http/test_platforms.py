"""The routes of SageMaker, Vertex AI and KServe, and /chat_tokenize."""

import json
from typing import Any

import pytest

from support.http_bench import says
from tgi_router.generation import ShardError

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


async def test_chat_tokenize_shows_the_prompt_and_its_tokens(start: Any) -> None:
    bench = await start()
    reply = await bench.post("/chat_tokenize", CHAT)
    answer = await reply.json()
    assert list(answer) == ["tokenize_response", "templated_text"]
    assert answer["templated_text"] == "<s>[user]hi[assistant]"
    # The template has written the first token; the tokenizer adds none.
    texts = [token["text"] for token in answer["tokenize_response"]]
    assert "".join(texts) == answer["templated_text"]
    assert list(answer["tokenize_response"][0]) == ["id", "text", "start", "stop"]


async def test_chat_tokenize_refuses_as_chat_does(start: Any) -> None:
    bench = await start()
    reply = await bench.post("/chat_tokenize", {"messages": [{"role": "nobody", "content": "x"}]})
    assert (reply.status, (await reply.json())["error_type"]) == (422, "template_error")


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"inputs": "hi"}, "generated_text"),
        (CHAT, "choices"),
        ({"prompt": "hi"}, "choices"),
        ({"inputs": "hi", **CHAT, "prompt": "x"}, "generated_text"),
    ],
)
async def test_an_invocation_is_answered_by_the_route_of_its_body(
    start: Any, body: dict[str, Any], key: str
) -> None:
    bench = await start(says("a"))
    answer = await (await bench.post("/invocations", body)).json()
    assert key in (answer[0] if isinstance(answer, list) else answer)
    stream = await bench.post("/invocations", body | {"stream": True})
    assert stream.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "must have `inputs`, `messages` or `prompt`"),
        ({"inputs": 5}, "`$.inputs`"),
        ({"messages": [{}]}, "`$.messages[0]`"),
        ([], "Expected `object`"),
    ],
)
async def test_an_invocation_that_is_none_of_them_is_422(start: Any, body: Any, told: str) -> None:
    bench = await start()
    reply = await bench.post("/invocations", body)
    answer = await reply.json()
    assert (reply.status, answer["error_type"]) == (422, "validation")
    assert told in answer["error"]


@pytest.mark.parametrize("path", ["/vertex", "/predict"])
async def test_vertex_answers_the_text_of_each_instance_in_order(start: Any, path: str) -> None:
    bench = await start(lambda request: says(request.inputs[-3:])(request), aip_predict_route="/predict")
    instances = [{"inputs": "one", "parameters": {"max_new_tokens": 3}}, CHAT, {"inputs": "two"}]
    reply = await bench.post(path, {"instances": instances})
    assert await reply.json() == {"predictions": ["one", "nt]", "two"]}
    first, chat, second = (entry.request for entry in bench.batcher.entries)
    assert first.stopping.max_new_tokens == 3
    assert first.parameters.do_sample
    assert second.parameters.do_sample
    assert not chat.add_special_tokens
    assert bench.inference.free_permits == 8


@pytest.mark.parametrize(
    ("instances", "told"),
    [
        ([], "`instances` cannot be empty"),
        ([{"inputs": "a"}, {"inputs": 5}], "`$.instances[1].inputs`"),
        ([5], "`$.instances[0]`"),
        ([{}], "`messages` - at `$.instances[0]`"),
        ([{"inputs": "a"}] * 9, "at most 8 can run"),
        ([{"inputs": "a", "parameters": {"best_of": 3}}], "`best_of`"),
    ],
)
async def test_wrong_instances_are_422(start: Any, instances: list[Any], told: str) -> None:
    bench = await start(says("a"))
    reply = await bench.post("/vertex", {"instances": instances})
    assert reply.status == 422
    assert told in (await reply.json())["error"]
    assert bench.inference.free_permits == 8


async def test_a_vertex_route_that_exists_already_stays_what_it_is(start: Any) -> None:
    bench = await start(says("a"), aip_predict_route="/v1/completions", aip_health_route="/health")
    assert "choices" in await (await bench.post("/v1/completions", {"prompt": "x"})).json()


def tensor(text: bytes) -> dict[str, Any]:
    return {"name": "in", "shape": [1], "datatype": "BYTES", "data": list(text)}


@pytest.mark.parametrize("path", ["/v2/models/m/versions/1/infer", "/v2/models/m/infer"])
async def test_kserve_infers(start: Any, path: str) -> None:
    bench = await start(says("é"), kserve=True)
    body = {"id": "7", "inputs": [tensor(b"hi")], "outputs": [{"name": "out"}]}
    answer = await (await bench.post(path, body)).json()
    assert answer == {
        "id": "7",
        "outputs": [{"name": "out", "shape": [1, 2], "datatype": "BYTES", "data": [0xC3, 0xA9]}],
    }


@pytest.mark.parametrize(
    ("inputs", "error_type"),
    [
        ([tensor(b"\xff")], "utf8"),
        ([], "length mismatch"),
        ([tensor(b"a") | {"data": [256]}], "validation"),
    ],
)
async def test_kserve_inputs_that_are_no_texts_are_422(
    start: Any, inputs: list[Any], error_type: str
) -> None:
    bench = await start(says("a"), kserve=True)
    body = {"id": "7", "inputs": inputs, "outputs": [{"name": "out"}]}
    reply = await bench.post("/v2/models/m/infer", body)
    assert (reply.status, (await reply.json())["error_type"]) == (422, error_type)


async def test_kserve_tells_a_failure(start: Any) -> None:
    bench = await start(lambda _: [ShardError("lost")], kserve=True)
    body = {"id": "7", "inputs": [tensor(b"a")], "outputs": [{"name": "out"}]}
    assert (await bench.post("/v2/models/m/infer", body)).status == 424


async def test_kserve_describes_server_and_model(start: Any) -> None:
    bench = await start(kserve=True)
    server = await (await bench.client.get("/v2")).json()
    assert server["name"] == "text-generation-inference"
    assert server["extensions"] == ["health", "models", "metrics"]
    model = await (await bench.client.get("/v2/models/m/versions/3")).text()
    assert json.loads(model) == {"name": "m", "version": "3", "extensions": ["infer", "ready"]}


async def test_kserve_is_ready_when_the_server_is_healthy(start: Any) -> None:
    bench = await start(kserve=True)
    assert await (await bench.client.get("/v2/health/ready")).json() == {"live": True}
    bench.health.fault = "a shard is gone"
    assert (await bench.client.get("/v2/models/m/ready")).status == 503
    assert (await bench.client.get("/v2/health/live")).status == 200


async def test_kserve_is_there_by_option_only(start: Any) -> None:
    bench = await start()
    assert (await bench.client.get("/v2/health/live")).status == 404
