"""Calls and results of a conversation reach templates in the shape they want."""

import re
from typing import Any

import pytest

from tgi_router.text.tools.formats import HERMES, MISTRAL
from tgi_router.text.tools.messages import template_messages


def call(arguments: object, call_id: str = "call_1") -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": call_id, "function": function}]}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"a": [1, "é"]}', {"a": [1, "é"]}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        (None, {}),
        ('{"a": ', '{"a": '),
        ("[1]", "[1]"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_arguments_become_an_object_if_they_are_one(arguments: object, shown: object) -> None:
    [message] = template_messages([call(arguments)], HERMES)
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": shown}}
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("20 °C", "20 °C"),
        ([{"type": "text", "text": "20"}, {"type": "text", "text": " °C"}], "20 °C"),
        (None, ""),
    ],
)
def test_a_result_becomes_text(content: object, text: str) -> None:
    result = {"role": "tool", "tool_call_id": "call_1", "content": content}
    assert template_messages([result], HERMES) == [{**result, "content": text}]


def test_other_messages_stay_as_they_are() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "x"},
    ]
    assert template_messages(messages, MISTRAL) == messages


def test_what_the_client_sent_is_not_changed() -> None:
    message = call('{"a": 1}')
    template_messages([message], MISTRAL)
    assert message == call('{"a": 1}')


def test_ids_become_nine_characters_where_templates_insist_and_results_follow_their_call() -> None:
    messages = [call("{}", "call_abc"), {"role": "tool", "tool_call_id": "call_abc", "content": "x"}]
    asked, answered = template_messages(messages, MISTRAL)
    assert re.fullmatch("[A-Za-z0-9]{9}", asked["tool_calls"][0]["id"])
    assert answered["tool_call_id"] == asked["tool_calls"][0]["id"]
    assert template_messages(messages, MISTRAL) == [asked, answered]


def test_ids_of_nine_characters_stay() -> None:
    assert template_messages([call("{}", "a1B2c3D4e")], MISTRAL)[0]["tool_calls"][0]["id"] == "a1B2c3D4e"
