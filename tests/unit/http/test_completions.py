"""/v1/completions, as OpenAI documents it."""

import json
from typing import Any

import pytest

from support.http_bench import events, says, token
from tgi_router.generation import EndEvent, FinishReason, PrefillEvent, ShardError, TokenEvent

PATH = "/v1/completions"


def chunks(raw: bytes) -> list[dict[str, Any]]:
    pieces = raw.decode().split("\n\n")
    assert pieces[-2:] == ["data: [DONE]", ""]
    return [json.loads(piece.removeprefix("data: ")) for piece in pieces[:-2]]


async def streamed(bench: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
    reply = await bench.post(PATH, body | {"stream": True})
    assert reply.status == 200, await reply.text()
    return chunks(await reply.read())


def counted(answer: dict[str, Any]) -> tuple[int, int, int]:
    usage = answer["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]


async def test_an_answer_has_openais_shape(start: Any) -> None:
    bench = await start(says("Hel", "lo"))
    reply = await bench.post(PATH, {"prompt": "hi", "max_tokens": 5})
    answer = await reply.json()
    assert list(answer) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert answer["id"].startswith("cmpl-")
    assert (answer["object"], answer["model"]) == ("text_completion", "org/model")
    assert answer["choices"] == [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
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
    assert counted(stream[-1]) == (3, 2, 5)
    assert all(chunk["usage"] is None for chunk in stream[:-1])
    assert bench.batcher.request.stopping.ignore_eos_token
    assert not bench.batcher.request.parameters.do_sample


async def test_several_prompts_are_answered_in_their_order(start: Any) -> None:
    bench = await start(lambda request: events(request.inputs.upper()))
    answer = await (await bench.post(PATH, {"prompt": ["a", "bc"]})).json()
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [(0, "A"), (1, "BC")]
    assert counted(answer) == (5, 4, 9)


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
    bench = await start(says("x"), max_concurrent_requests=2)
    with bench.inference.acquire():
        assert (await bench.post(PATH, {"prompt": ["a", "b"]})).status == 429
        assert (await bench.post(PATH, {"prompt": ["a"]})).status == 200


async def test_more_at_once_than_can_ever_run_is_422_and_not_an_overload_that_will_pass(start: Any) -> None:
    bench = await start(says("x"), max_concurrent_requests=1)
    reply = await bench.post(PATH, {"prompt": ["a", "b"]})
    assert reply.status == 422
    assert "2 generations are asked for at once, but at most 1" in (await reply.json())["error"]["message"]


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
        ({"prompt": [[]]}, "validation"),
        ({"prompt": ["a", [5]]}, "validation"),
        ({"prompt": [5, "a"]}, "validation"),
        ({"prompt": [99999]}, "validation"),
        ({"best_of": 2}, "validation"),
        ({"n": 0}, "validation"),
        ({"n": 4}, "validation"),
        ({"n": 2, "best_of": 1}, "validation"),
        ({"logprobs": 6}, "validation"),
        ({"presence_penalty": 2.5}, "validation"),
        ({"min_p": 1.5}, "validation"),
        ({"max_tokens": 0}, "validation"),
        ({"max_tokens": 3, "min_tokens": 4}, "validation"),
        ({"logit_bias": {"a": 1}}, "validation"),
        ({"logit_bias": {"5": 101}}, "validation"),
        ({"logit_bias": {"99999": 1}}, "validation"),
        ({"logit_bias": {str(key): 1 for key in range(7)}}, "validation"),
        ({"stop_token_ids": [99999]}, "validation"),
        ({"stop_token_ids": [1] * 7}, "validation"),
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


async def test_what_peers_know_is_passed_on(start: Any) -> None:
    bench = await start(says("x"))
    fields = {
        "presence_penalty": 0.5,
        "min_p": 0.25,
        "logit_bias": {"5": -100, "7": 0},
        "min_tokens": 2,
        "stop_token_ids": [9],
    }
    assert (await bench.post(PATH, {"prompt": "hi", "max_tokens": 4} | fields)).status == 200
    request = bench.batcher.request
    assert (request.parameters.presence_penalty, request.parameters.min_p) == (0.5, 0.25)
    assert request.parameters.token_bias == {5: -100}
    assert (request.stopping.min_new_tokens, request.stopping.stop_token_ids) == (2, (9,))


async def test_a_prompt_may_be_token_ids(start: Any) -> None:
    bench = await start(says("x"))
    answer = await (await bench.post(PATH, {"prompt": [71, 72], "echo": True})).json()
    assert list(bench.batcher.request.input_ids) == [71, 72]
    assert answer["choices"][0]["text"] == "hix"
    assert counted(answer) == (2, 2, 4)
    several = await (await bench.post(PATH, {"prompt": [[71], [72]], "echo": True})).json()
    assert [choice["text"] for choice in several["choices"]] == ["hx", "ix"]


@pytest.mark.parametrize("stream", [False, True])
async def test_each_prompt_has_n_choices_that_count_its_tokens_once(start: Any, stream: bool) -> None:
    bench = await start(lambda request: events(request.inputs.upper()))
    body = {"prompt": ["a", "b"], "n": 2, "seed": 7, "stream_options": {"include_usage": True}}
    if stream:
        sent = await streamed(bench, body)
        texts = dict.fromkeys(range(4), "")
        for chunk in sent[:-1]:
            [choice] = chunk["choices"]
            texts[choice["index"]] += choice["text"]
        answer = sent[-1]
    else:
        answer = await (await bench.post(PATH, body)).json()
        texts = {choice["index"]: choice["text"] for choice in answer["choices"]}
    assert texts == {0: "A", 1: "A", 2: "B", 3: "B"}
    assert counted(answer) == (4, 8, 12)
    assert [entry.request.parameters.seed for entry in bench.batcher.entries] == [7, 8, 7, 8]
    assert bench.inference.free_permits == 8


async def test_the_best_of_several_candidates_is_answered(start: Any) -> None:
    logprobs = iter([-3.0, -0.5])
    bench = await start(lambda _: events(f"{(logprob := next(logprobs))}", logprob=logprob))
    answer = await (await bench.post(PATH, {"prompt": "hi", "best_of": 2})).json()
    assert [choice["text"] for choice in answer["choices"]] == ["-0.5"]
    assert counted(answer) == (3, 4, 7)


async def test_logprobs_are_lists_side_by_side(start: Any) -> None:
    bench = await start(says("é", "b", top=2, reason=FinishReason.LENGTH))
    answer = await (await bench.post(PATH, {"prompt": "hi", "logprobs": 2})).json()
    assert answer["choices"][0]["logprobs"] == {
        "tokens": ["é", "b"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"é": -0.5, "t1": -2.0, "t0": -1.0}, {"b": -0.5, "t1": -2.0, "t0": -1.0}],
        "text_offset": [0, 1],
    }
    assert bench.batcher.request.top_n_tokens == 2
    stream = await streamed(bench, {"prompt": "hi", "logprobs": 2})
    pieces = [chunk["choices"][0]["logprobs"] for chunk in stream]
    assert [piece["text_offset"] for piece in pieces] == [[0], [1]]
    assert [piece["tokens"] for piece in pieces] == [["é"], ["b"]]


async def test_logprobs_of_no_likeliest_tokens_are_those_of_the_tokens(start: Any) -> None:
    bench = await start(says("a", reason=FinishReason.LENGTH))
    answer = await (await bench.post(PATH, {"prompt": "hi", "logprobs": 0})).json()
    assert answer["choices"][0]["logprobs"]["top_logprobs"] is None
    assert answer["choices"][0]["logprobs"]["token_logprobs"] == [-0.5]


def scored(request: Any) -> list[Any]:
    prompt = [token(1, "h", logprob=float("nan")), token(2, "i", logprob=-1.5)]
    top = [token(2, "i", logprob=-1.5)]
    assert request.prefill_logprobs
    return [PrefillEvent(prompt, [[], top]), *events("x", reason=FinishReason.LENGTH, top=1)]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echoed_prompt_has_its_logprobs(start: Any, stream: bool) -> None:
    bench = await start(scored)
    body = {"prompt": "hi", "logprobs": 1, "echo": True, "max_tokens": 1}
    if stream:
        pieces = [chunk["choices"][0] for chunk in await streamed(bench, body)]
        text = "".join(piece["text"] for piece in pieces)
        logprobs = {
            name: [each for piece in pieces for each in piece["logprobs"][name]]
            for name in pieces[0]["logprobs"]
        }
    else:
        choice = (await (await bench.post(PATH, body)).json())["choices"][0]
        text, logprobs = choice["text"], choice["logprobs"]
    assert text == "hix"
    assert logprobs == {
        "tokens": ["h", "i", "x"],
        "token_logprobs": [None, -1.5, -0.5],
        "top_logprobs": [None, {"i": -1.5}, {"x": -0.5, "t0": -1.0}],
        "text_offset": [0, 1, 2],
    }
    assert bench.batcher.request.prefill_top_n_tokens == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_of_no_tokens_scores_the_prompt_alone(start: Any, stream: bool) -> None:
    bench = await start(scored)
    body = {"prompt": "hi", "logprobs": 1, "echo": True, "max_tokens": 0}
    if stream:
        sent = await streamed(bench, body | {"stream_options": {"include_usage": True}})
        choices, usage = [chunk["choices"][0] for chunk in sent[:-1]], sent[-1]
    else:
        usage = await (await bench.post(PATH, body)).json()
        choices = usage["choices"]
    assert "".join(choice["text"] for choice in choices) == "hi"
    assert [name for choice in choices for name in choice["logprobs"]["tokens"]] == ["h", "i"]
    assert choices[-1]["finish_reason"] == "length"
    assert counted(usage) == (3, 0, 3)


async def test_special_tokens_and_stop_strings_show_where_they_are_asked_for(start: Any) -> None:
    def script(_: Any) -> list[Any]:
        end = EndEvent(token(5, "END"), [], "aEND", FinishReason.STOP_SEQUENCE, 3, None, 0.0, 0.0)
        return [TokenEvent(token(1, "a")), TokenEvent(token(3, "<s>", special=True)), end]

    bench = await start(script)
    hidden = {"prompt": "hi", "stop": "END"}
    shown = hidden | {"skip_special_tokens": False, "include_stop_str_in_output": True}
    for body, text in ((hidden, "a"), (shown, "a<s>END")):
        answer = await (await bench.post(PATH, body)).json()
        assert answer["choices"][0]["text"] == text
        assert "".join(chunk["choices"][0]["text"] for chunk in await streamed(bench, body)) == text


async def test_bytes_that_never_became_a_character_come_with_the_end(start: Any) -> None:
    def script(_: Any) -> list[Any]:
        end = EndEvent(
            token(2, "\ufffd</s>", special=True), [], "a\ufffd", FinishReason.EOS_TOKEN, 2, None, 0.0, 0.0
        )
        return [TokenEvent(token(1, "a")), end]

    bench = await start(script)
    stream = await streamed(bench, {"prompt": "hi"})
    assert "".join(chunk["choices"][0]["text"] for chunk in stream) == "a\ufffd"
