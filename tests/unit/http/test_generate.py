"""TGI's native routes, to the byte."""

import math
import time
from typing import Any

import numpy as np
import pytest

from support.http_bench import events, says, token
from tgi_router.generation import EndEvent, FinishReason, PrefillEvent, ShardError, TokenEvent


async def test_a_whole_answer_without_details_is_its_text(start: Any) -> None:
    bench = await start(says("Hel", "lo"))
    reply = await bench.post("/generate", {"inputs": "hello"})
    assert await reply.read() == b'{"generated_text":"Hello"}'
    assert reply.headers["Content-Type"] == "application/json"


async def test_details_have_tgis_keys_in_tgis_order(start: Any) -> None:
    bench = await start(says("Hi", seed=7))
    reply = await bench.post("/generate", {"inputs": "hello", "parameters": {"details": True}})
    assert await reply.read() == (
        b'{"generated_text":"Hi","details":{"finish_reason":"eos_token","generated_tokens":2,"seed":7,'
        b'"prefill":[],"tokens":[{"id":10,"text":"Hi","logprob":-0.5,"special":false},'
        b'{"id":2,"text":"</s>","logprob":-0.5,"special":true}]}}'
    )


async def test_prompt_tokens_come_with_null_for_what_is_not_a_number(start: Any) -> None:
    prefill = PrefillEvent([token(256, "<s>", logprob=math.nan), token(5, "h", logprob=-0.25)])
    bench = await start(lambda _: [prefill, *events("Hi")])
    answer = await bench.generate(decoder_input_details=True)
    assert answer["details"]["prefill"] == [
        {"id": 256, "text": "<s>", "logprob": None},
        {"id": 5, "text": "h", "logprob": -0.25},
    ]


async def test_top_tokens_are_listed_for_every_token(start: Any) -> None:
    bench = await start(says("a", "b", top=2))
    details = (await bench.generate(details=True, top_n_tokens=2))["details"]
    assert list(details)[-1] == "top_tokens"
    assert [[top["id"] for top in place] for place in details["top_tokens"]] == [[100, 101]] * 3
    assert bench.batcher.request.top_n_tokens == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(-0.1), b"-0.1"),
        (np.float32(-1.1920929e-07), b"-1.1920929e-7"),
        (np.float32(-3.0), b"-3.0"),
        (np.float32(-12.345679), b"-12.345679"),
        (math.nan, b"null"),
        (-math.inf, b"null"),
    ],
)
async def test_log_probabilities_are_written_as_32_bit_floats(start: Any, value: Any, text: bytes) -> None:
    bench = await start(says("a", logprob=float(value)))
    for path in ("/generate", "/generate_stream"):
        reply = await bench.post(path, {"inputs": "hello", "parameters": {"details": True}})
        assert b'"logprob":' + text + b"," in await reply.read()


async def test_headers_tell_what_it_took(start: Any) -> None:
    bench = await start(says("Hi"))
    reply = await bench.post("/generate", {"inputs": "héllo"})
    assert reply.headers["x-compute-type"] == "cpu+optimized"
    assert reply.headers["x-compute-characters"] == "5"
    assert reply.headers["x-prompt-tokens"] == "7"
    assert reply.headers["x-generated-tokens"] == "2"
    assert 0 < float(reply.headers["x-compute-time"]) < 60
    for name in ("total-time", "validation-time", "queue-time", "inference-time", "time-per-token"):
        assert reply.headers[f"x-{name}"].isdigit(), name
    assert "server" not in reply.headers


async def test_the_full_text_begins_with_the_prompt(start: Any) -> None:
    bench = await start(says("!"))
    assert (await bench.generate(return_full_text=True))["generated_text"] == "hello!"
    assert (await bench.generate(return_full_text=False))["generated_text"] == "!"


async def test_parameters_left_out_sample_and_empty_ones_do_not(start: Any) -> None:
    bench = await start(says("!"))
    await bench.post("/generate", {"inputs": "hello"})
    assert bench.batcher.request.parameters.do_sample
    await bench.post("/generate", {"inputs": "hello", "parameters": {}})
    assert not bench.batcher.request.parameters.do_sample


async def test_the_root_route_answers_a_list_with_the_full_text(start: Any) -> None:
    bench = await start(says("!"))
    reply = await bench.post("/", {"inputs": "hello"})
    assert await reply.read() == b'[{"generated_text":"hello!"}]'
    reply = await bench.post("/", {"inputs": "hello", "parameters": {"return_full_text": False}})
    assert await reply.json() == [{"generated_text": "!"}]


async def test_the_root_route_streams_when_asked(start: Any) -> None:
    bench = await start(says("!"))
    reply = await bench.post("/", {"inputs": "hello", "stream": True})
    assert reply.headers["content-type"] == "text/event-stream"
    assert b'"generated_text":"hello!"' in await reply.read()


async def test_best_of_answers_the_likeliest_and_lists_the_others(start: Any) -> None:
    logprobs = iter([-0.9, -0.1])
    bench = await start(lambda request: events("x", seed=request.parameters.seed, logprob=next(logprobs)))
    answer = await bench.generate(best_of=2, do_sample=True, details=True)
    first, second = (entry.request.parameters.seed for entry in bench.batcher.entries)
    assert first != second
    assert answer["details"]["seed"] == second
    [other] = answer["details"]["best_of_sequences"]
    assert list(other) == ["generated_text", "finish_reason", "generated_tokens", "seed", "prefill", "tokens"]
    assert other["seed"] == first
    assert bench.inference.free_permits == 8


async def test_every_member_of_best_of_takes_a_permit(start: Any) -> None:
    bench = await start(says("x"), max_concurrent_requests=2)
    body = {"inputs": "hello", "parameters": {"best_of": 2, "do_sample": True}}
    with bench.inference.acquire():
        assert (await bench.post("/generate", body)).status == 429
    assert (await bench.post("/generate", body)).status == 200


async def test_best_of_more_than_can_run_is_422_and_not_an_overload_that_will_pass(start: Any) -> None:
    bench = await start(says("x"), max_concurrent_requests=1)
    body = {"inputs": "hello", "parameters": {"best_of": 2, "do_sample": True}}
    reply = await bench.post("/generate", body)
    assert (reply.status, (await reply.json())["error_type"]) == (422, "validation")


async def test_a_failing_member_fails_the_answer_and_frees_the_others(start: Any) -> None:
    answers = iter([[ShardError("out of memory")], []])
    bench = await start(lambda _: next(answers))
    parameters = {"best_of": 2, "do_sample": True}
    reply = await bench.post("/generate", {"inputs": "hello", "parameters": parameters})
    assert reply.status == 424
    assert bench.inference.free_permits == 8


async def test_a_stream_is_one_event_for_each_token(start: Any) -> None:
    bench = await start(says("He", "y", seed=3))
    reply = await bench.post("/generate_stream", {"inputs": "hello", "parameters": {"details": True}})
    assert await reply.read() == (
        b'data: {"index":1,"token":{"id":10,"text":"He","logprob":-0.5,"special":false},'
        b'"generated_text":null,"details":null}\n\n'
        b'data: {"index":2,"token":{"id":11,"text":"y","logprob":-0.5,"special":false},'
        b'"generated_text":null,"details":null}\n\n'
        b'data: {"index":3,"token":{"id":2,"text":"</s>","logprob":-0.5,"special":true},'
        b'"generated_text":"Hey","details":{"finish_reason":"eos_token","generated_tokens":3,"seed":3,'
        b'"input_length":6}}\n\n'
    )
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["x-compute-type"] == "cpu+optimized"
    assert reply.headers["x-compute-characters"] == "5"
    assert "x-total-time" not in reply.headers


async def test_text_is_sent_as_utf8_with_control_characters_escaped(start: Any) -> None:
    bench = await start(says('é🎉"\n\x01'))
    raw = await (await bench.post("/generate_stream", {"inputs": "hello"})).read()
    assert '"text":"é🎉\\"\\n\\u0001"'.encode() in raw


async def test_streamed_top_tokens_stand_between_token_and_text(start: Any) -> None:
    bench = await start(says("a", top=1))
    raw = await (await bench.post("/generate_stream", {"inputs": "hello"})).read()
    assert b'},"top_tokens":[{"id":100,"text":"t0","logprob":-1.0,"special":false}],"generated_text"' in raw


async def test_a_token_without_top_tokens_does_not_repeat_the_last_ones(start: Any) -> None:
    first, *_ = events("a", top=1)
    bench = await start(lambda _: [first, *events("b")])
    raw = await (await bench.post("/generate_stream", {"inputs": "hello"})).read()
    assert raw.count(b"top_tokens") == 1


async def test_a_failure_after_the_first_token_is_an_event_and_ends_the_stream(start: Any) -> None:
    bench = await start(lambda _: [events("a")[0], ShardError("device lost")])
    reply = await bench.post("/generate_stream", {"inputs": "hello"})
    assert reply.status == 200
    pieces = (await reply.read()).split(b"\n\n")
    assert pieces[1] == (
        b'data: {"error":"Request failed during generation: Server error: device lost",'
        b'"error_type":"generation"}'
    )
    assert pieces[2:] == [b""]


async def test_a_stream_that_stops_short_says_so(start: Any) -> None:
    bench = await start(lambda _: [events("a")[0]])
    raw = await (await bench.post("/generate_stream", {"inputs": "hello"})).read()
    assert raw.endswith(
        b'data: {"error":"Incomplete generation stream","error_type":"incomplete_generation_stream"}\n\n'
    )
    reply = await bench.post("/generate", {"inputs": "hello"})
    assert reply.status == 500
    assert await reply.json() == {"error": "Incomplete generation", "error_type": "incomplete_generation"}


async def test_a_slow_generation_is_streamed_token_by_token(start: Any) -> None:
    bench = await start()
    reply = await bench.post("/generate_stream", {"inputs": "hello"})
    stream = bench.batcher.entries[0].stream
    assert reply.status == 200  # before any token
    for index, text in enumerate(("a", "b"), start=1):
        stream.push(TokenEvent(token(index, text)))
        line = await reply.content.readline()
        assert line.startswith(b'data: {"index":%d' % index)
        assert await reply.content.readline() == b"\n"
    now = time.monotonic()
    stream.push(EndEvent(token(3, "c"), [], "abc", FinishReason.LENGTH, 3, None, now, now))
    stream.end()
    assert b'"generated_text":"abc"' in await reply.read()
    assert bench.inference.free_permits == 8
