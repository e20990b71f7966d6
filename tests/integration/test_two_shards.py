"""Splitting the model between two processes changes nothing but the number of processes."""

from collections.abc import Iterator

import pytest

from support.prompts import WORDS, chat_prompt, long_text
from support.server import Launch, Server, serving
from support.workload import Request, ask_together, differences


@pytest.fixture(scope="module")
def one_shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """In float32, as the two: sums over half of the inputs each are rounded otherwise than one sum."""
    log_path = tmp_path_factory.mktemp("one-shard") / "server.log"
    with serving(log_path, "--dtype", "float32") as server:
        yield server


def greedy_requests() -> list[Request]:
    prompts = [
        *(chat_prompt(f"What is {a} + {b}?") for a, b in ((12, 7), (3, 58), (44, 29))),
        *(chat_prompt(f"Count from {start} to {start + 25}") for start in (1, 30, 61)),
        *(chat_prompt(f"Repeat: {' '.join(WORDS[start : start + 4])}") for start in (0, 5)),
        *(long_text(words, start=words) for words in (10, 60, 200)),
        chat_prompt("Hello!"),
    ]
    return [Request(prompt, {"max_new_tokens": 40}) for prompt in prompts]


@pytest.mark.slow
def test_two_shards_give_the_same_greedy_text_as_one(one_shard: Server, two_shards: Server) -> None:
    requests = greedy_requests()
    one = ask_together(one_shard.api, requests)
    two = ask_together(two_shards.api, requests)
    assert not (different := differences(requests, one, two)), "\n".join(different)
    two_shards.wait_until_idle()


@pytest.mark.slow
def test_two_shards_draw_the_same_seeded_tokens_as_one(one_shard: Server, two_shards: Server) -> None:
    requests = [
        Request(request.inputs, request.parameters | {"do_sample": True, "seed": number, "top_k": 50})
        for number, request in enumerate(greedy_requests())
    ]
    one = ask_together(one_shard.api, requests)
    two = ask_together(two_shards.api, requests)
    assert not (different := differences(requests, one, two)), "\n".join(different)


@pytest.mark.slow
def test_each_rank_is_a_process_of_its_own(two_shards: Server) -> None:
    assert len(two_shards.shards) == 2
    assert sorted(path.name for path in two_shards.left_sockets()) == ["shard-0", "shard-1"]


@pytest.mark.slow
def test_two_sharded_servers_live_beside_each_other(two_shards: Server, start_launcher: Launch) -> None:
    """Both find a port for their rendezvous; the second computes as by default, by the kernels."""
    other = start_launcher("--num-shard", "2")
    other.wait_until_ready()
    question = chat_prompt("What is 12 + 7?")
    answers = [
        server.api.generate(question, max_new_tokens=8)["generated_text"] for server in (two_shards, other)
    ]
    assert answers[0] == answers[1]
    other.stop()
    assert two_shards.api.generate(question, max_new_tokens=8)["generated_text"] == answers[0]
