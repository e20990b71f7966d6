"""LangChain and LiteLLM, unchanged, in a virtual environment of their own: texts, streams, tools, schemas."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.foreign_clients import interpreter, run_script
from support.server import Server

SCRIPT = Path(__file__).with_name("frameworks_script.py")


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What the script printed, filled by the first test that needs it."""
    return {}


@pytest.fixture
def answers(server: Server, results: dict[str, Any]) -> dict[str, Any]:
    if not results:
        python = interpreter("FRAMEWORKS_VENV", ".venv-frameworks")
        results.update(run_script(python, SCRIPT, server.url, 110, LITELLM_LOCAL_MODEL_COST_MAP="True"))
    return results


@pytest.mark.parametrize("framework", ["langchain", "litellm"])
def test_it_chats_and_streams_the_same(answers: dict[str, Any], framework: str) -> None:
    assert "19" in answers[framework]["text"]
    assert answers[framework]["streamed"] == answers[framework]["text"]


@pytest.mark.parametrize("framework", ["langchain", "litellm"])
def test_it_calls_the_tool_with_arguments_of_its_schema(answers: dict[str, Any], framework: str) -> None:
    for name, arguments in answers[framework]["calls"]:
        assert name == "GetWeather"
        assert arguments.keys() == {"city", "celsius"}
        assert isinstance(arguments["celsius"], bool)
    assert answers[framework]["calls"]


def test_streamed_calls_say_the_same(answers: dict[str, Any]) -> None:
    assert answers["langchain"]["streamed_calls"] == answers["langchain"]["calls"]
    assert answers["litellm"]["streamed_name"] == "GetWeather"
    assert json.loads(answers["litellm"]["streamed_arguments"]) == answers["litellm"]["calls"][0][1]
    assert answers["litellm"]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("framework", ["langchain", "litellm"])
def test_it_gets_what_its_schema_describes(answers: dict[str, Any], framework: str) -> None:
    person = answers[framework]["person"]
    assert len(person["name"]) <= 8
    assert 0 <= person["age"] <= 120
