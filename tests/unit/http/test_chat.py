"""/v1/chat/completions, as OpenAI documents it."""

import json
from typing import Any

import pytest

from support.http_bench import events, says
from tgi_router.generation import FinishReason, ShardError

PATH = "/v1/chat/completions"
HI: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def chunks(raw: bytes) -> list[dict[str, Any]]:
    pieces = raw.decode().split("\n\n")
    assert pieces[-2:] == ["data: [DONE]", ""]
    return [json.loads(piece.removeprefix("data: ")) for piece in pieces[:-2]]


async def streamed(bench: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
    reply = await bench.post(PATH, body | {"stream": True})
    assert reply.status == 200, await reply.text()
    return chunks(await reply.read())


def text_of(stream: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content", "") for chunk in stream for choice in chunk["choices"])


async def test_an_answer_has_openais_shape(start: Any) -> None:
    bench = await start(says("Hel", "lo"))
    reply = await bench.post(PATH, HI)
    answer = await reply.json()
    assert list(answer) == [
        "id",
        "object",
        "created",
        "model",
        "system_fingerprint",
        "choices",
        "usage",
    ]
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["created"] > 1_700_000_000
    assert (answer["model"], answer["system_fingerprint"]) == ("org/model", "1.2.3-native")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    prompt = len("[user]hi[assistant]") + 1
    assert answer["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 3,
        "total_tokens": prompt + 3,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert reply.headers["x-prompt-tokens"] == str(prompt)


async def test_the_prompt_is_the_rendered_template_without_a_second_first_token(start: Any) -> None:
    bench = await start(says("x"))
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "1"}]},
    ]
    await bench.post(PATH, {"messages": messages})
    request = bench.batcher.request
    assert request.inputs == "<s>[system]Be brief.[user]1 + 1[assistant]"
    assert not request.add_special_tokens
    assert list(request.input_ids).count(256) == 1


async def test_the_models_own_last_message_is_continued(start: Any) -> None:
    bench = await start(says("x"))
    await bench.post(PATH, {"messages": [*HI["messages"], {"role": "assistant", "content": "1, 2, "}]})
    assert bench.batcher.request.inputs == "<s>[user]hi[assistant]1, 2,"


async def test_a_stream_is_role_then_text_then_reason_then_done(start: Any) -> None:
    bench = await start(says("Hel", "lo"))
    stream = await streamed(bench, HI)
    choices = [chunk["choices"][0] for chunk in stream]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
    assert all(choice["logprobs"] is None and choice["index"] == 0 for choice in choices)
    assert all("usage" not in chunk for chunk in stream)
    assert len({(chunk["id"], chunk["created"]) for chunk in stream}) == 1
    assert {chunk["object"] for chunk in stream} == {"chat.completion.chunk"}


async def test_usage_comes_last_when_asked_for(start: Any) -> None:
    bench = await start(says("a"))
    stream = await streamed(bench, HI | {"stream_options": {"include_usage": True}})
    assert all(chunk["usage"] is None for chunk in stream[:-1])
    assert stream[-1]["choices"] == []
    usage = stream[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (20, 2, 22)


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (FinishReason.LENGTH, "length"),
        (FinishReason.STOP_SEQUENCE, "stop"),
        (FinishReason.EOS_TOKEN, "stop"),
    ],
)
async def test_reasons_have_openais_names(start: Any, reason: FinishReason, word: str) -> None:
    bench = await start(says("a", reason=reason))
    answer = await (await bench.post(PATH, HI)).json()
    assert answer["choices"][0]["finish_reason"] == word
    assert (await streamed(bench, HI))[-1]["choices"][0]["finish_reason"] == word


@pytest.mark.parametrize("stop", ["END", ["nope", "END"]])
async def test_stop_strings_end_the_text_and_do_not_show(start: Any, stop: Any) -> None:
    bench = await start(says("a E", "N", "D!", reason=FinishReason.STOP_SEQUENCE))
    answer = await (await bench.post(PATH, HI | {"stop": stop})).json()
    assert answer["choices"][0]["message"]["content"] == "a "
    assert text_of(await streamed(bench, HI | {"stop": stop})) == "a "
    assert bench.batcher.request.stopping.stop_sequences[-1] == "END"


async def test_text_held_back_for_a_stop_string_comes_when_none_follows(start: Any) -> None:
    bench = await start(says("a E", "N", "x", "E", reason=FinishReason.LENGTH))
    assert text_of(await streamed(bench, HI | {"stop": "END"})) == "a ENxE"


async def test_logprobs_have_openais_shape(start: Any) -> None:
    bench = await start(says("é", top=2))
    body = HI | {"logprobs": True, "top_logprobs": 2}
    answer = await (await bench.post(PATH, body)).json()
    first, last = answer["choices"][0]["logprobs"]["content"]
    assert first == {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [
            {"token": "t0", "logprob": -1.0, "bytes": [116, 48]},
            {"token": "t1", "logprob": -2.0, "bytes": [116, 49]},
        ],
    }
    assert last["token"] == "</s>"
    assert bench.batcher.request.top_n_tokens == 2
    stream = await streamed(bench, body)
    entries = [
        entry
        for chunk in stream
        for choice in chunk["choices"]
        if choice["logprobs"]
        for entry in choice["logprobs"]["content"]
    ]
    assert entries == [first, last]


async def test_temperature_zero_is_greedy_whatever_else_is_given(start: Any) -> None:
    bench = await start(says("a"))
    await bench.post(PATH, HI | {"temperature": 0, "top_p": 0.5, "top_k": 3, "seed": 5})
    sampling = bench.batcher.request.parameters
    assert not sampling.do_sample
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 0)


async def test_no_temperature_samples_at_one(start: Any) -> None:
    bench = await start(says("a"))
    await bench.post(PATH, HI)
    sampling = bench.batcher.request.parameters
    assert sampling.do_sample
    assert sampling.temperature == 1.0


async def test_parameters_are_passed_on(start: Any) -> None:
    bench = await start(says("a"))
    fields = {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": -1,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.5,
        "seed": -1,
        "ignore_eos": True,
    }
    await bench.post(PATH, HI | fields)
    request = bench.batcher.request
    assert request.stopping.max_new_tokens == 9
    assert request.stopping.ignore_eos_token
    sampling = request.parameters
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.25, 0)
    assert (sampling.frequency_penalty, sampling.repetition_penalty) == (0.5, 1.5)
    assert sampling.seed == 2**64 - 1


async def test_max_completion_tokens_is_the_newer_name(start: Any) -> None:
    bench = await start(says("a"))
    await bench.post(PATH, HI | {"max_completion_tokens": 7})
    assert bench.batcher.request.stopping.max_new_tokens == 7
    reply = await bench.post(PATH, HI | {"max_completion_tokens": 7, "max_tokens": 8})
    assert reply.status == 422
    await bench.post(PATH, HI | {"max_completion_tokens": 6, "max_tokens": 6})
    assert bench.batcher.request.stopping.max_new_tokens == 6


async def test_neutral_values_of_what_is_not_supported_are_accepted(start: Any) -> None:
    bench = await start(says("a"))
    neutral = {
        "n": 1,
        "top_p": 1,
        "presence_penalty": 0,
        "logit_bias": {},
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "stop": None,
        "stream_options": None,
        "model": "tgi",
        "user": "someone",
    }
    reply = await bench.post(PATH, HI | neutral)
    assert reply.status == 200, await reply.text()


@pytest.mark.parametrize(
    "field",
    [
        {"n": 4},
        {"n": 0},
        {"presence_penalty": 2.5},
        {"logit_bias": {"5": 101}},
        {"tools": [{"type": "code", "function": {"name": "f"}}]},
        {"tools": [{"type": "function", "function": {"name": "no spaces"}}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}] * 2},
        {"tools": [{"type": "function", "function": {"name": f"f{number}"}} for number in range(5)]},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tool_choice": "f"},
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}},
        {"guided_regex": "a("},
        {"guided_choice": []},
        {"guided_json": {"type": "object", "description": "x" * 5000}},
        {"messages": [{"role": "user", "content": "x"}] * 9},
        {"top_logprobs": 2},
        {"logprobs": True, "top_logprobs": 6},
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_not_supported_is_refused_and_not_ignored(
    start: Any, field: dict[str, Any], stream: bool
) -> None:
    bench = await start(says("a"))
    reply = await bench.post(PATH, HI | field | {"stream": stream})
    assert reply.status == 422
    error = (await reply.json())["error"]
    assert error["type"] == "invalid_request_error"
    # The field that is told is one of those given (a path into it for nested ones).
    assert error["param"].split("[")[0] in field
    assert bench.inference.free_permits == 8
    assert not bench.batcher.entries


async def test_a_template_that_refuses_the_messages_is_422(start: Any) -> None:
    bench = await start(says("a"))
    reply = await bench.post(PATH, {"messages": [{"role": "nobody", "content": "x"}], "stream": True})
    assert reply.status == 422
    answer = await reply.json()
    assert answer["error_type"] == "template_error"
    assert answer["error"]["message"] == "Template error: unknown role"
    assert bench.sample('tgi_request_failure{err="template"}') == 1
    assert bench.inference.free_permits == 8


async def test_a_failure_in_a_stream_is_an_event_then_done(start: Any) -> None:
    bench = await start(lambda _: [events("a")[0], ShardError("device lost")])
    stream = await streamed(bench, HI | {"stream_options": {"include_usage": True}})
    assert stream[-1]["error_type"] == "generation"
    error = stream[-1]["error"]
    assert error["message"].endswith("device lost")
    assert (error["type"], error["http_status_code"]) == ("server_error", 424)
