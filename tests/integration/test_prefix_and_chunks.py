"""A prompt computed before, or computed in pieces, is answered as if it were computed at once."""

import pytest

from support.prompts import long_text
from support.server import Server
from support.workload import Request, ask, ask_together, differences

HITS, QUERIES = "tgi_prefix_cache_hit_tokens", "tgi_prefix_cache_query_tokens"


def test_a_prompt_seen_before_is_taken_from_the_cache_and_answered_the_same(server: Server) -> None:
    request = Request(long_text(300, start=3), {"max_new_tokens": 30})
    before = server.metrics()
    first = ask(server.api, request)
    between = server.metrics()
    second = ask(server.api, request)
    after = server.metrics()

    assert not (different := differences([request], [first], [second])), different
    assert between[QUERIES] - before[QUERIES] == first.input_length
    assert after[HITS] - between[HITS] >= first.input_length - 32, "most of the prompt comes from the cache"
    assert after[HITS] - between[HITS] < first.input_length, "at least one token is computed"
    server.wait_until_idle()


def test_a_shared_beginning_is_reused_and_another_end_is_answered_on_its_own(server: Server) -> None:
    common = long_text(200, start=6)
    requests = [Request(f"{common} {end}", {"max_new_tokens": 20}) for end in ("stop", "river 7 and", "!")]
    fresh = [
        Request(request.inputs, request.parameters | {"decoder_input_details": True}) for request in requests
    ]
    before = server.metrics()[HITS]
    reused = [ask(server.api, request).text for request in requests]
    assert server.metrics()[HITS] - before >= 2 * 200
    # Requests for prompt details never use the cache, so they are the comparison.
    computed = [
        server.api.generate(request.inputs, **request.parameters)["generated_text"] for request in fresh
    ]
    assert reused == computed


def test_the_next_turn_of_a_chat_reuses_what_was_generated(server: Server) -> None:
    opening = "<|im_start|>user\nCount from 20 to 60<|im_end|>\n<|im_start|>assistant\n"
    first = ask(server.api, Request(opening, {"max_new_tokens": 120}))
    assert len(first.token_ids) > 40, "too short an answer to fill blocks"
    before = server.metrics()[HITS]
    followup = f"{opening}{first.text}<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
    ask(server.api, Request(followup, {"max_new_tokens": 5}))
    reused = server.metrics()[HITS] - before
    assert reused > first.input_length, "only the prompt was reused, not the answer"


def test_equal_prompts_at_once_are_answered_the_same(server: Server) -> None:
    requests = [Request(long_text(250, start=9), {"max_new_tokens": 25})] * 8
    answers = ask_together(server.api, requests)
    assert not (different := differences(requests, answers, [answers[0]] * 8)), different
    server.wait_until_idle()


@pytest.mark.slow
def test_a_prompt_computed_in_small_pieces_is_answered_as_at_once(
    server: Server, tight_server: Server
) -> None:
    """32 prompt tokens a step against 4096: the longest of these prompts takes dozens of steps."""
    requests = [
        Request(long_text(words, start=words), {"max_new_tokens": 25}) for words in (10, 33, 120, 640)
    ]
    whole, pieces = ([ask(api, request) for request in requests] for api in (server.api, tight_server.api))
    assert not (different := differences(requests, whole, pieces)), "\n".join(different)
    assert server.metrics()["tgi_kv_blocks_used"] == 0


@pytest.mark.slow
def test_pieces_of_several_prompts_beside_running_requests_change_nothing(
    server: Server, tight_server: Server
) -> None:
    requests = [
        Request(long_text(words, start=words + 1), {"max_new_tokens": 40}) for words in (30, 350, 150, 90)
    ]
    whole = [ask(server.api, request) for request in requests]
    pieces = ask_together(tight_server.api, requests)
    assert not (different := differences(requests, whole, pieces)), "\n".join(different)
    tight_server.wait_until_idle()


@pytest.mark.slow
def test_prompt_logprobs_are_complete_when_the_prompt_comes_in_pieces(
    server: Server, tight_server: Server
) -> None:
    prompt = long_text(120, start=2)
    parameters = {"max_new_tokens": 3, "decoder_input_details": True}
    whole, pieces = (
        api.generate(prompt, **parameters)["details"]["prefill"] for api in (server.api, tight_server.api)
    )
    assert [token["id"] for token in pieces] == [token["id"] for token in whole]
    for left, right in zip(whole[1:], pieces[1:], strict=True):
        assert right["logprob"] == pytest.approx(left["logprob"], abs=1e-3)


def test_most_of_a_full_size_prompt_can_be_reused(server: Server) -> None:
    limit = server.api.get("/info").json()["max_total_tokens"]
    request = Request(long_text(3 * limit), {"max_new_tokens": 4, "truncate": limit - 4})
    answers = [ask(server.api, request) for _ in range(2)]
    assert answers[0].input_length == limit - 4
    assert not differences([request], answers[:1], answers[1:])
    server.wait_until_idle()
