"""A client that hangs up frees everything its request held, in whatever phase it was."""

import contextlib
import http.client
import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.api import EventStream
from support.prompts import chat_prompt, long_text
from support.server import Server
from support.waiting import eventually

# Long enough that it cannot have ended by itself before the client hangs up.
ENDLESS = {"prompt": "1 2 3", "max_tokens": 1900, "temperature": 0, "ignore_eos": True}
LONG_PROMPT = {"prompt": long_text(700), "max_tokens": 50, "temperature": 0, "ignore_eos": True}
DROPPED = 'tgi_request_failure{err="dropped"}'


def running_stream(server: Server, body: dict[str, Any] = ENDLESS) -> EventStream:
    stream = server.api.stream("/v1/completions", body | {"stream": True})
    assert stream.status == 200, stream.read()
    next(iter(stream))
    return stream


def grown(server: Server, before: dict[str, float], name: str) -> float:
    return server.metrics()[name] - before[name]


def is_freed(server: Server, before: dict[str, float], dropped: int) -> None:
    """Nothing is held, and the requests ended because they were dropped, not because they were done."""
    server.wait_until_idle()
    assert grown(server, before, "tgi_request_success") == 0, "the request ran to its end"
    eventually(
        lambda: grown(server, before, DROPPED) == dropped, f"{dropped} requests are counted as dropped"
    )


def test_hanging_up_while_tokens_come_frees_the_blocks(server: Server) -> None:
    before = server.metrics()
    stream = running_stream(server)
    assert server.metrics()["tgi_kv_blocks_used"] > 0
    stream.close()
    is_freed(server, before, dropped=1)


def test_hanging_up_on_a_generate_stream_frees_the_blocks(server: Server) -> None:
    before = server.metrics()
    body = {
        "inputs": "1 2 3",
        "parameters": {"max_new_tokens": 1900, "do_sample": True, "temperature": 9.0, "seed": 4},
    }
    stream = server.api.stream("/generate_stream", body)
    next(iter(stream))
    stream.close()
    server.wait_until_idle()
    assert server.metrics()["tgi_request_count"] - before["tgi_request_count"] == 1


def test_hanging_up_before_a_whole_answer_frees_the_blocks(server: Server) -> None:
    """Nothing has been written to this client, so only the lost connection tells."""
    before = server.metrics()
    connection = server.api.start("/v1/completions", ENDLESS)
    eventually(lambda: server.metrics()["tgi_batch_current_size"] == 1, "the request runs")
    connection.close()
    is_freed(server, before, dropped=1)


def test_others_go_on_when_one_client_hangs_up(server: Server) -> None:
    body = {"prompt": "Hello", "max_tokens": 200, "temperature": 0, "ignore_eos": True, "stream": True}
    with server.api.stream("/v1/completions", body) as alone:
        expected = [event["choices"] for event in alone]
    staying = server.api.stream("/v1/completions", body)
    leaving = [running_stream(server) for _ in range(5)]
    for stream in leaving:
        stream.close()
    assert [event["choices"] for event in staying] == expected
    staying.close()
    server.wait_until_idle()


@pytest.mark.slow
def test_hanging_up_while_the_prompt_is_computed_frees_the_blocks(tight_server: Server) -> None:
    """At 32 prompt tokens a step these prompts take many steps, and the clients never see a token."""
    before = tight_server.metrics()
    connections = [tight_server.api.start("/v1/completions", LONG_PROMPT) for _ in range(2)]
    eventually(lambda: tight_server.metrics()["tgi_kv_blocks_used"] > 0, "a prompt is being computed")
    for connection in connections:
        connection.close()
    is_freed(tight_server, before, dropped=2)


@pytest.mark.slow
def test_hanging_up_while_queued_leaves_the_queue_at_once(tight_server: Server) -> None:
    before = tight_server.metrics()
    running = [running_stream(tight_server) for _ in range(2)]
    queued = [
        tight_server.api.start("/v1/completions", ENDLESS | {"stream": stream}) for stream in (True, False)
    ]
    eventually(lambda: tight_server.metrics()["tgi_queue_size"] == 2, "two requests wait")
    for connection in queued:
        connection.close()
    eventually(lambda: tight_server.metrics()["tgi_queue_size"] == 0, "the queue is empty")
    assert tight_server.metrics()["tgi_batch_current_size"] == 2, "those that run still run"
    for stream in running:
        assert next(iter(stream))["choices"]
        stream.close()
    is_freed(tight_server, before, dropped=4)


@pytest.mark.slow
def test_a_permit_of_a_client_that_hung_up_is_free_again(tight_server: Server) -> None:
    """Four permits: many more clients than that come and go, one after the other."""
    for _ in range(12):
        with contextlib.suppress(http.client.HTTPException):
            running_stream(tight_server).close()
    tight_server.wait_until_idle()
    streams = [tight_server.api.stream("/v1/completions", ENDLESS | {"stream": True}) for _ in range(4)]
    assert [stream.status for stream in streams] == [200] * 4
    for stream in streams:
        stream.close()
    tight_server.wait_until_idle()


@pytest.mark.slow
def test_a_storm_of_clients_that_come_and_go_leaves_nothing_behind(server: Server) -> None:
    """Readers, early leavers, those who never read, and those who ask for the impossible, all at once."""
    question = chat_prompt("Count from 3 to 12")
    expected = server.api.generate(question, max_new_tokens=40)["generated_text"]

    def client(number: int) -> str | None:
        dice = random.Random(number)
        prompt = long_text(dice.randrange(2, 300), start=number)
        body = {"prompt": prompt, "max_tokens": dice.randrange(1, 200), "ignore_eos": True, "seed": number}
        match number % 5:
            case 0:
                return server.api.generate(question, max_new_tokens=40)["generated_text"]
            case 1:
                with server.api.stream("/v1/completions", body | {"stream": True}) as stream:
                    list(itertools.islice(stream, dice.randrange(5)))
            case 2:
                server.api.start("/v1/completions", body | {"stream": bool(dice.getrandbits(1))}).close()
            case 3:
                assert server.api.post("/v1/completions", body | {"max_tokens": 10**6}).status == 422
            case 4:
                assert len(server.api.generate_events(prompt, max_new_tokens=5)) <= 5
        return None

    with ThreadPoolExecutor(50) as pool:
        answers = [answer for answer in pool.map(client, range(250)) if answer is not None]
    assert set(answers) == {expected}
    server.wait_until_idle()
    assert server.api.get("/health").status == 200
    assert server.api.generate(question, max_new_tokens=40)["generated_text"] == expected
