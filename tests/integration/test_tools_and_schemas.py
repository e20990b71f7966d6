"""Tools and JSON schemas on a real server, through openai and huggingface_hub, streamed and not."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest
from huggingface_hub import InferenceClient

from support.server import Server

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "celsius": {"type": "boolean"}},
            "required": ["city", "celsius"],
            "additionalProperties": False,
        },
    },
}
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["glad", "sad"]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}
ASK: dict[str, Any] = {
    "model": "tgi",
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    "max_tokens": 200,
    "temperature": 0,
}
CALL: dict[str, Any] = ASK | {"tools": [WEATHER], "tool_choice": "required"}
FORMAT: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0) as client:
        yield client


def check_call(name: str, arguments: str) -> None:
    assert name == "get_weather"
    jsonschema.validate(json.loads(arguments), WEATHER["function"]["parameters"])


def test_a_required_call_keeps_to_its_schema(client: openai.OpenAI) -> None:
    [choice] = client.chat.completions.create(**CALL, parallel_tool_calls=False).choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    check_call(call.function.name, call.function.arguments)
    assert call.id
    assert choice.message.content is None


def test_a_streamed_call_begins_with_its_name_and_says_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**CALL, parallel_tool_calls=False).choices[0].message.tool_calls[0]
    deltas = [
        call
        for chunk in client.chat.completions.create(**CALL, parallel_tool_calls=False, stream=True)
        for call in chunk.choices[0].delta.tool_calls or []
    ]
    assert deltas[0].function.name == "get_weather"
    assert deltas[0].id
    assert all(call.id is None and call.function.name is None for call in deltas[1:])
    assert "".join(call.function.arguments or "" for call in deltas) == whole.function.arguments


def test_a_named_tool_is_called(client: openai.OpenAI) -> None:
    clock = {"type": "function", "function": {"name": "clock"}}
    chosen = {"type": "function", "function": {"name": "clock"}}
    body = CALL | {"tools": [WEATHER, clock], "tool_choice": chosen}
    [call] = client.chat.completions.create(**body).choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("clock", {})


def test_the_conversation_goes_on_with_the_tools_result(client: openai.OpenAI) -> None:
    message = client.chat.completions.create(**CALL, parallel_tool_calls=False).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    messages = [*ASK["messages"], message, result]
    answer = client.chat.completions.create(**ASK | {"messages": messages}, tools=[WEATHER])
    assert answer.choices[0].finish_reason in ("stop", "tool_calls", "length")


@pytest.mark.parametrize("temperature", [0, 1.3])
def test_a_schema_is_kept_to(client: openai.OpenAI, temperature: float) -> None:
    body = ASK | {"temperature": temperature, "seed": 4, "response_format": FORMAT}
    completion = client.chat.completions.create(**body)
    assert completion.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(completion.choices[0].message.content), PERSON)
    pieces = [
        chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**body, stream=True)
    ]
    assert "".join(pieces) == completion.choices[0].message.content


def test_huggingface_hubs_client_calls_tools_and_keeps_to_schemas(server: Server) -> None:
    client = InferenceClient(server.url)
    messages = ASK["messages"]
    answer = client.chat_completion(
        messages, tools=[WEATHER], tool_choice="required", max_tokens=200, temperature=0.0
    )
    call = answer.choices[0].message.tool_calls[0]
    check_call(call.function.name, call.function.arguments)
    told = client.chat_completion(messages, response_format=FORMAT, max_tokens=200, temperature=0.0)
    jsonschema.validate(json.loads(told.choices[0].message.content), PERSON)
    streamed = client.chat_completion(
        messages, response_format=FORMAT, max_tokens=200, temperature=0.0, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == told.choices[0].message.content
    native = client.text_generation(
        "A person:", grammar={"type": "json", "value": PERSON}, max_new_tokens=200, return_full_text=False
    )
    jsonschema.validate(json.loads(native), PERSON)
