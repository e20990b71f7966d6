"""The router drives shards that are not ours: padded ones without blocks, and ones that cannot chunk."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.fake_engine import counting_script, fake_tokenize, token_text
from support.lone_router import routing
from support.server import Server
from support.waiting import eventually

pytestmark = pytest.mark.slow

KINDS = ["padded", "tgi-paged", "whole-prompts"]


@pytest.fixture(scope="module", params=KINDS)
def router(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with routing(tmp_path_factory.mktemp("router") / "router.log", request.param) as router:
        yield router


@pytest.fixture(scope="module", params=KINDS[:2])
def two_shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with routing(tmp_path_factory.mktemp("router") / "router.log", request.param, num_shard=2) as router:
        yield router


def scripted(prompt: str, tokens: int) -> str:
    """What the fake shards answer to this prompt."""
    ids = tuple(fake_tokenize(prompt))
    return "".join(token_text(counting_script(ids, number)) for number in range(tokens))


def prompts(count: int) -> list[str]:
    return [
        " ".join(str(100 + (7 * number + word) % 50) for word in range(1 + number % 9))
        for number in range(count)
    ]


def test_a_request_is_answered_and_ends_at_its_length(router: Server) -> None:
    answer = router.api.generate("11 12 13", max_new_tokens=9)
    assert answer["details"]["generated_tokens"] == 9
    assert answer["details"]["finish_reason"] == "length"
    assert answer["generated_text"] == scripted("11 12 13", 9)


def test_many_at_once_are_all_answered_right_and_leave_nothing(router: Server) -> None:
    """More than fit at a time: they queue, join, end at different steps, and are filtered out."""
    requests = [(prompt, 1 + 3 * number % 17) for number, prompt in enumerate(prompts(40))]

    def ask(request: tuple[str, int]) -> str:
        prompt, tokens = request
        events = router.api.generate_events(prompt, max_new_tokens=tokens)
        assert len(events) == tokens, events[-1]
        text: str = events[-1]["generated_text"]
        return text

    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(ask, requests))
    assert together == [scripted(prompt, tokens) for prompt, tokens in requests]
    router.wait_until_idle()


def test_hanging_up_drops_the_request_from_the_shards(router: Server) -> None:
    before = router.metrics()
    stream = router.api.stream("/generate_stream", {"inputs": "5 6", "parameters": {"max_new_tokens": 200}})
    next(iter(stream))
    stream.close()
    router.wait_until_idle()
    assert router.metrics()["tgi_request_success"] == before["tgi_request_success"]


def test_it_is_healthy_and_says_its_limits(router: Server) -> None:
    assert router.api.get("/health").status == 200
    info = router.api.get("/info").json()
    assert 0 < info["max_input_tokens"] < info["max_total_tokens"]


def test_a_request_beyond_the_limits_is_refused_at_the_door(router: Server) -> None:
    limit = router.api.get("/info").json()["max_total_tokens"]
    body = {"inputs": "1 2 3", "parameters": {"max_new_tokens": limit + 1}}
    assert router.api.post("/generate", body).status == 422
    assert router.api.generate("1 2 3", max_new_tokens=2)


def test_ranks_answer_for_their_own_requests(two_shards: Server) -> None:
    """TGI's ranks each send the tokens of some requests; the router puts them together."""
    asked = prompts(8)
    with ThreadPoolExecutor(len(asked)) as pool:
        texts = list(pool.map(lambda prompt: two_shards.api.generate(prompt, max_new_tokens=6), asked))
    expected = [scripted(prompt, 6) for prompt in asked]
    assert [answer["generated_text"] for answer in texts] == expected
    two_shards.wait_until_idle()


def test_prompt_details_and_top_tokens_pass_through(router: Server) -> None:
    answer = router.api.generate("11 12 13", max_new_tokens=3, decoder_input_details=True, top_n_tokens=2)
    assert answer["details"]["prefill"]
    assert [len(entries) for entries in answer["details"]["top_tokens"]] == [2, 2, 2]


@pytest.mark.parametrize("kind", ["padded", "paged"])
def test_shards_that_die_are_reported_and_unhealthy(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with routing(tmp_path_factory.mktemp("router") / "router.log", kind, step_seconds=0.02) as router:
        stream = router.api.stream(
            "/generate_stream", {"inputs": "5 6", "parameters": {"max_new_tokens": 100}}
        )
        events = iter(stream)
        next(events)
        for process in router.left_processes():
            if "support.fake_shard" in process.cmdline():
                process.kill()
        last = list(events)[-1]
        stream.close()
        assert last["error_type"] == "generation", last
        eventually(lambda: router.api.get("/health").status == 503, "the router says that it is unhealthy")
        assert router.api.get("/health").json()["error_type"] == "healthcheck"
        reply = router.api.post("/generate", {"inputs": "5 6"})
        assert reply.status == 424, reply.text
        assert reply.json()["error_type"] == "generation"
