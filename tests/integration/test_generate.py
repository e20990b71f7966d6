"""The native routes: shapes, parameters and what they do to the text."""

import re
from collections import Counter
from typing import Any

import pytest

from support.prompts import LONG_COUNT, chat_prompt, long_text
from support.server import Server
from support.shapes import check_details, check_prefill, check_stream_details, check_stream_events
from support.workload import streamed_text

SUM = chat_prompt("What is 12 + 7?")
COUNT = chat_prompt("Count from 3 to 12")


def test_a_question_is_answered_and_the_end_token_is_not_part_of_the_text(server: Server) -> None:
    answer = server.api.generate(SUM, max_new_tokens=20)
    assert list(answer) == ["generated_text", "details"]
    check_details(answer["details"])
    assert "19" in answer["generated_text"]
    assert answer["details"]["finish_reason"] == "eos_token"
    assert answer["details"]["tokens"][-1]["special"]
    assert answer["details"]["tokens"][-1]["text"] == "<|im_end|>"
    assert "<|im_end|>" not in answer["generated_text"]
    assert answer["details"]["seed"] is None


def test_details_are_left_out_unless_asked_for(server: Server) -> None:
    reply = server.api.post("/generate", {"inputs": SUM, "parameters": {"max_new_tokens": 4}})
    assert list(reply.json()) == ["generated_text"]


def test_a_stream_says_the_same_as_the_whole_answer(server: Server) -> None:
    whole = server.api.generate(COUNT, max_new_tokens=30)
    events = server.api.generate_events(COUNT, max_new_tokens=30)
    check_stream_events(events)
    check_stream_details(events[-1]["details"])
    assert events[-1]["generated_text"] == whole["generated_text"]
    assert [event["token"]["id"] for event in events] == [token["id"] for token in whole["details"]["tokens"]]
    assert events[-1]["details"]["finish_reason"] == whole["details"]["finish_reason"]


def test_a_stream_without_details_sends_null_and_no_done(server: Server) -> None:
    body = {"inputs": SUM, "parameters": {"max_new_tokens": 4}}
    with server.api.stream("/generate_stream", body) as stream:
        events = list(stream)
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-cache"
        assert stream.headers["x-accel-buffering"] == "no"
        assert not stream.done
    check_stream_events(events)
    assert events[-1]["details"] is None


def test_events_are_framed_byte_for_byte_as_tgi_does(server: Server) -> None:
    with server.api.stream(
        "/generate_stream", {"inputs": "héé", "parameters": {"max_new_tokens": 6}}
    ) as stream:
        raw = stream.read()
    pieces = raw.split(b"\n\n")
    assert pieces.pop() == b""
    for piece in pieces:
        assert re.fullmatch(rb'data: \{"index":\d+,"token":\{"id":\d+,"text":".*","logprob":.*\}', piece), (
            piece
        )
        assert b"\n" not in piece


def test_the_root_route_answers_a_list_or_a_stream(server: Server) -> None:
    parameters = {"max_new_tokens": 20}
    [answer] = server.api.post(
        "/", {"inputs": SUM, "parameters": parameters | {"return_full_text": False}}
    ).json()
    assert "19" in answer["generated_text"]
    with server.api.stream("/", {"inputs": SUM, "parameters": parameters, "stream": True}) as stream:
        events = list(stream)
    check_stream_events(events)


def test_the_root_route_returns_the_full_text_by_default_and_generate_does_not(server: Server) -> None:
    """A local folder has no pipeline tag, which TGI takes for text-generation."""
    [root] = server.api.post("/", {"inputs": SUM, "parameters": {"max_new_tokens": 20}}).json()
    plain = server.api.generate(SUM, max_new_tokens=20)
    full = server.api.generate(SUM, max_new_tokens=20, return_full_text=True)
    assert root["generated_text"] == full["generated_text"] == SUM + plain["generated_text"]


def test_headers_tell_counts_and_times(server: Server) -> None:
    reply = server.api.post(
        "/generate", {"inputs": "héllo", "parameters": {"max_new_tokens": 3, "details": True}}
    )
    assert reply.headers["x-compute-type"]
    assert float(reply.headers["x-compute-time"]) > 0
    assert reply.headers["x-compute-characters"] == "5"
    assert int(reply.headers["x-generated-tokens"]) == reply.json()["details"]["generated_tokens"]
    assert int(reply.headers["x-prompt-tokens"]) == len(
        server.api.post("/tokenize", {"inputs": "héllo"}).json()
    )
    for name in ("total", "validation", "queue", "inference"):
        assert int(reply.headers[f"x-{name}-time"]) >= 0
    assert int(reply.headers["x-time-per-token"]) >= 0
    assert reply.headers["access-control-allow-origin"] == "*"


def test_max_new_tokens_ends_with_length(server: Server) -> None:
    answer = server.api.generate(chat_prompt(LONG_COUNT), max_new_tokens=7)
    assert answer["details"]["generated_tokens"] == 7
    assert answer["details"]["finish_reason"] == "length"


@pytest.mark.parametrize("stop", ["7", "6, 7", "7, 8", " 8"])
def test_a_stop_sequence_ends_the_text_and_stays_in_it(server: Server, stop: str) -> None:
    free = server.api.generate(COUNT, max_new_tokens=60)["generated_text"]
    assert stop in free
    answer = server.api.generate(COUNT, max_new_tokens=60, stop=["no such text", stop])
    assert answer["details"]["finish_reason"] == "stop_sequence"
    end = free.index(stop) + len(stop)
    assert answer["generated_text"].startswith(free[:end])
    assert stop not in answer["generated_text"][: end - 1]


def test_the_same_seed_gives_the_same_text_and_is_reported(server: Server) -> None:
    drawn = {"max_new_tokens": 30, "do_sample": True, "temperature": 1.5, "seed": 2**63 + 5}
    first, second = (server.api.generate("Hello", **drawn) for _ in range(2))
    assert first["details"]["seed"] == 2**63 + 5
    assert first["details"]["tokens"] == second["details"]["tokens"]


def test_other_seeds_give_other_texts_and_a_missing_seed_is_drawn(server: Server) -> None:
    drawn: dict[str, Any] = {"max_new_tokens": 30, "do_sample": True, "temperature": 2.0}
    texts = {server.api.generate("Hello", seed=seed, **drawn)["generated_text"] for seed in range(5)}
    assert len(texts) > 1
    seeds = {server.api.generate("Hello", **drawn)["details"]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert None not in seeds


def test_a_drawn_seed_repeats_its_text(server: Server) -> None:
    drawn: dict[str, Any] = {"max_new_tokens": 30, "do_sample": True, "temperature": 2.0}
    first = server.api.generate("Hello", **drawn)
    again = server.api.generate("Hello", seed=first["details"]["seed"], **drawn)
    assert again["details"]["tokens"] == first["details"]["tokens"]


def test_absent_parameters_sample_and_empty_ones_are_greedy(server: Server) -> None:
    """TGI's rule to the letter, odd as it is; the seed shows which it was."""
    body = {"inputs": SUM, "parameters": {"max_new_tokens": 3, "details": True}}
    assert server.api.post("/generate", body).json()["details"]["seed"] is None
    greedy = {server.api.post("/generate", {"inputs": SUM, "parameters": {}}).text for _ in range(3)}
    assert len(greedy) == 1
    assert server.api.post("/generate", {"inputs": SUM}).status == 200


@pytest.mark.parametrize(
    "parameters", [{"top_p": 1.0}, {"typical_p": 1.0}, {"top_p": 1.0, "temperature": 0.7}]
)
def test_one_is_a_fine_probability_mass(server: Server, parameters: dict[str, Any]) -> None:
    assert server.api.generate("Hello", max_new_tokens=3, **parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 0.01},
        {"top_k": 1},
        {"top_p": 0.0001},
        {"do_sample": True, "temperature": 0.01, "top_k": 3, "top_p": 0.9, "typical_p": 0.95},
    ],
)
def test_sampling_from_next_to_nothing_is_greedy(server: Server, parameters: dict[str, Any]) -> None:
    greedy = server.api.generate(SUM, max_new_tokens=20)
    sampled = server.api.generate(SUM, max_new_tokens=20, seed=11, **parameters)
    assert sampled["generated_text"] == greedy["generated_text"]


@pytest.mark.parametrize("penalty", [{"repetition_penalty": 3.0}, {"frequency_penalty": 2.0}])
def test_a_penalty_breaks_up_repetition(server: Server, penalty: dict[str, float]) -> None:
    prompt = chat_prompt("Repeat: blue blue blue blue blue blue blue blue blue blue")

    def highest_count(**parameters: float) -> int:
        answer = server.api.generate(prompt, max_new_tokens=10, **parameters)
        return max(Counter(token["id"] for token in answer["details"]["tokens"]).values())

    assert highest_count(**penalty) < highest_count()


def test_top_n_tokens_lead_with_the_greedy_choice(server: Server) -> None:
    answer = server.api.generate(COUNT, max_new_tokens=8, top_n_tokens=3)
    check_details(answer["details"], top_n_tokens=3)
    for token, entries in zip(answer["details"]["tokens"], answer["details"]["top_tokens"], strict=True):
        # Two ways to the same number, which need not round alike.
        assert entries[0] == token | {"logprob": pytest.approx(token["logprob"], abs=1e-6)}
    events = server.api.generate_events(COUNT, max_new_tokens=8, top_n_tokens=3)
    check_stream_events(events, top_n_tokens=3)
    for event, entries in zip(events, answer["details"]["top_tokens"], strict=True):
        assert [entry["id"] for entry in event["top_tokens"]] == [entry["id"] for entry in entries]


def test_prompt_logprobs_are_those_the_tokens_had_when_generated(server: Server) -> None:
    """The same text, once written by the model and once read by it, has the same log-probabilities."""
    written = server.api.generate(COUNT, max_new_tokens=12)
    text = COUNT + "".join(token["text"] for token in written["details"]["tokens"])
    read = server.api.generate(text, max_new_tokens=1, decoder_input_details=True)
    check_prefill(read["details"]["prefill"])
    tail = read["details"]["prefill"][-len(written["details"]["tokens"]) :]
    for seen, token in zip(tail, written["details"]["tokens"], strict=True):
        assert (seen["id"], seen["text"]) == (token["id"], token["text"])
        assert seen["logprob"] == pytest.approx(token["logprob"], abs=1e-3)


def test_prompt_details_cover_the_whole_prompt_in_order(server: Server) -> None:
    prompt = long_text(120)
    answer = server.api.generate(prompt, max_new_tokens=2, decoder_input_details=True)
    ids = [token["id"] for token in server.api.post("/tokenize", {"inputs": prompt}).json()]
    assert [token["id"] for token in answer["details"]["prefill"]] == ids
    check_details(answer["details"])


def test_asking_for_prompt_details_does_not_change_the_answer(server: Server) -> None:
    prompt = long_text(120)
    plain = server.api.generate(prompt, max_new_tokens=20)
    detailed = server.api.generate(prompt, max_new_tokens=20, decoder_input_details=True)
    assert detailed["generated_text"] == plain["generated_text"]


def test_truncate_keeps_the_end_of_the_prompt(server: Server) -> None:
    prompt = long_text(60)
    ids = [token["id"] for token in server.api.post("/tokenize", {"inputs": prompt}).json()]
    answer = server.api.generate(prompt, max_new_tokens=2, truncate=9, decoder_input_details=True)
    assert [token["id"] for token in answer["details"]["prefill"]] == ids[-9:]
    assert (
        server.api.generate_events(prompt, max_new_tokens=2, truncate=9)[-1]["details"]["input_length"] == 9
    )


def test_best_of_returns_the_likelier_text_and_the_others_beside_it(server: Server) -> None:
    answer = server.api.generate("Hello", max_new_tokens=8, do_sample=True, temperature=2.0, best_of=2)
    details = answer["details"]
    [other] = details["best_of_sequences"]

    def mean_logprob(tokens: list[dict[str, Any]]) -> float:
        return sum(token["logprob"] for token in tokens) / len(tokens)

    assert mean_logprob(details["tokens"]) >= mean_logprob(other["tokens"])
    assert other["generated_tokens"] == len(other["tokens"])
    assert other["seed"] != details["seed"]


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_never_sends_half_a_character(server: Server, seed: int) -> None:
    """At this temperature the model writes any bytes; the pieces must still add up to the whole text."""
    drawn: dict[str, Any] = {"max_new_tokens": 120, "do_sample": True, "temperature": 20.0, "seed": seed}
    events = server.api.generate_events("Repeat: héllo 🎉", **drawn)
    assert streamed_text(events) == events[-1]["generated_text"]


def test_any_text_can_be_a_prompt(server: Server) -> None:
    prompts = [
        "\x00",
        "\n",
        " ",
        "🎉",
        "\u200b",
        "é" * 50,
        "a" * 1000,
        "<|im_end|>",
        "<tool_call>",
        "\ud7ff",
        "{}",
    ]
    for prompt in prompts:
        answer = server.api.generate(prompt, max_new_tokens=2)
        assert 1 <= answer["details"]["generated_tokens"] <= 2, prompt
