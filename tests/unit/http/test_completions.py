"""/v1/completions, as OpenAI documents it."""

import json
from typing import Any

import pytest

from support.http_bench import events, says, token
from tgi_router.generation import EndEvent, FinishReason, ShardError, TokenEvent

PATH = "/v1/completions"


def chunks(raw: bytes) -> list[dict[str, Any]]:
    pieces = raw.decode().split("\n\n")
    assert pieces[-2:] == ["data: [DONE]", ""]
    return [json.loads(piece.removeprefix("data: ")) for piece in pieces[:-2]]


async def streamed(bench: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
    reply = await bench.post(PATH, body | {"stream": True})
    assert reply.status == 200, await reply.text()
    return chunks(await reply.read())


async def test_an_answer_has_openais_shape(start: Any) -> None:
    bench = await start(says("Hel", "lo"))
    reply = await bench.post(PATH, {"prompt": "hi", "max_tokens": 5})
    answer = await reply.json()
    assert list(answer) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert answer["id"].startswith("cmpl-")
    assert (answer["object"], answer["model"]) == ("text_completion", "org/model")
    assert answer["choices"] == [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert bench.batcher.request.add_special_tokens
    assert reply.headers["x-generated-tokens"] == "3"


async def test_a_stream_is_a_chunk_for_each_token_without_the_end_tokens_text(start: Any) -> None:
    bench = await start(says("Hel", "lo"))
    stream = await streamed(bench, {"prompt": ["hi"]})
    assert [chunk["choices"] for chunk in stream] == [
        [{"index": 0, "text": "Hel", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": "lo", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}],
    ]
    assert all("usage" not in chunk for chunk in stream)
    assert len({chunk["id"] for chunk in stream}) == 1


async def test_what_a_load_generator_sends_works(start: Any) -> None:
    bench = await start(says("a", "b", reason=FinishReason.LENGTH))
    body = {
        "model": "tgi",
        "prompt": "hi",
        "max_tokens": 2,
        "temperature": 0.0,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    stream = await streamed(bench, body)
    assert stream[-2]["choices"][0]["finish_reason"] == "length"
    assert stream[-1]["choices"] == []
    assert stream[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert all(chunk["usage"] is None for chunk in stream[:-1])
    assert bench.batcher.request.stopping.ignore_eos_token
    assert not bench.batcher.request.parameters.do_sample


async def test_several_prompts_are_answered_in_their_order(start: Any) -> None:
    bench = await start(lambda request: events(request.inputs.upper()))
    answer = await (await bench.post(PATH, {"prompt": ["a", "bc"]})).json()
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [(0, "A"), (1, "BC")]
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


async def test_streams_of_several_prompts_do_not_wait_for_each_other(start: Any) -> None:
    bench = await start()
    reply = await bench.post(PATH, {"prompt": ["a", "b"], "stream": True})
    first, second = (entry.stream for entry in bench.batcher.entries)
    for stream, index in ((second, 1), (second, 1), (first, 0)):
        stream.push(TokenEvent(token(1, "x")))
        chunk = json.loads((await reply.content.readline()).removeprefix(b"data: "))
        assert chunk["choices"][0]["index"] == index
        await reply.content.readline()
    for stream in (first, second):
        stream.push(EndEvent(token(2, "y"), [], "xy", FinishReason.LENGTH, 2, None, 0.0, 0.0))
        stream.end()
    assert len(chunks(await reply.read())) == 2
    assert bench.inference.free_permits == 8


async def test_one_failing_prompt_leaves_the_others_running(start: Any) -> None:
    bench = await start(
        lambda request: [ShardError("device lost")] if request.inputs == "bad" else events("ok")
    )
    stream = await streamed(bench, {"prompt": ["bad", "good"]})
    assert stream[0]["error"]["message"].endswith("device lost")
    assert "".join(chunk["choices"][0]["text"] for chunk in stream[1:]) == "ok"


async def test_each_prompt_takes_a_permit(start: Any) -> None:
    bench = await start(says("x"), max_concurrent_requests=1)
    assert (await bench.post(PATH, {"prompt": ["a", "b"]})).status == 429
    assert (await bench.post(PATH, {"prompt": ["a"]})).status == 200


async def test_stop_strings_do_not_show(start: Any) -> None:
    bench = await start(says("a\n", "\n", reason=FinishReason.STOP_SEQUENCE))
    answer = await (await bench.post(PATH, {"prompt": "hi", "stop": "\n\n"})).json()
    assert answer["choices"][0]["text"] == "a"
    stream = await streamed(bench, {"prompt": "hi", "stop": ["\n\n"]})
    assert "".join(chunk["choices"][0]["text"] for chunk in stream) == "a"


@pytest.mark.parametrize(
    ("field", "error_type"),
    [
        ({"suffix": "x"}, "suffix not supported"),
        ({"prompt": ["a", "b", "c"]}, "batch size exceeded"),
        ({"prompt": []}, "validation"),
        ({"prompt": ""}, "validation"),
        ({"echo": True}, "validation"),
        ({"best_of": 2}, "validation"),
        ({"logprobs": 1}, "validation"),
        ({"n": 2}, "validation"),
        ({"presence_penalty": 1}, "validation"),
    ],
    ids=str,
)
async def test_what_is_not_supported_is_refused(start: Any, field: dict[str, Any], error_type: str) -> None:
    bench = await start(says("a"))
    reply = await bench.post(PATH, {"prompt": "hi", "stream": True} | field)
    assert reply.status == 422
    assert (await reply.json())["error_type"] == error_type
    assert not bench.batcher.entries


async def test_neutral_values_are_accepted(start: Any) -> None:
    bench = await start(says("a"))
    neutral = {"suffix": None, "echo": False, "best_of": 1, "logprobs": None, "n": 1, "logit_bias": None}
    assert (await bench.post(PATH, {"prompt": "hi"} | neutral)).status == 200
