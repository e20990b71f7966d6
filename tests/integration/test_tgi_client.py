"""TGI's own Python client (the `text-generation` package), in a virtual environment of its own."""

from pathlib import Path
from typing import Any

import pytest

from support.foreign_clients import interpreter, run_script
from support.server import Server

SCRIPT = Path(__file__).with_name("tgi_client_script.py")


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What the script printed, filled by the first test that needs it."""
    return {}


@pytest.fixture
def answers(server: Server, results: dict[str, Any]) -> dict[str, Any]:
    if not results:
        python = interpreter("CLIENT_VENV", ".venv-tgi-client")
        results.update(run_script(python, SCRIPT, server.url, 60))
    return results


def test_it_gets_a_whole_answer_with_details(answers: dict[str, Any]) -> None:
    whole = answers["whole"]
    assert "19" in whole["generated_text"]
    assert whole["details"]["finish_reason"] == "eos_token"
    assert whole["details"]["prefill"]
    assert len(whole["details"]["top_tokens"]) == len(whole["details"]["tokens"])


def test_it_streams_the_same(answers: dict[str, Any]) -> None:
    assert answers["streamed"][-1]["generated_text"] == answers["whole"]["generated_text"]
    assert len(answers["streamed"]) == len(answers["whole"]["details"]["tokens"])
    assert answers["streamed"][-1]["details"]["finish_reason"] == "eos_token"


def test_it_samples_by_seed(answers: dict[str, Any]) -> None:
    assert answers["sampled"][0] == answers["sampled"][1]


def test_it_takes_the_best_of_two(answers: dict[str, Any]) -> None:
    assert answers["best_of_others"] == 1


def test_it_chats(answers: dict[str, Any]) -> None:
    """No streams: there this client parses `[DONE]` as JSON and wants `tool_calls` in every delta."""
    assert "19" in answers["chat"]["choices"][0]["message"]["content"]


def test_it_raises_its_own_validation_error(answers: dict[str, Any]) -> None:
    assert "max_new_tokens" in answers["refused"]


def test_its_asynchronous_client_says_the_same(answers: dict[str, Any]) -> None:
    assert answers["asynchronous"]["text"] == answers["whole"]["generated_text"]
    assert answers["asynchronous"]["streamed"] == answers["whole"]["generated_text"]
