"""Talks to a server through LangChain and LiteLLM and prints what it got as JSON.

Run by a Python that has them, in a virtual environment of its own: `python frameworks_script.py URL`.
"""

import json
import sys
from typing import Any

import litellm
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

QUESTION = "What is 12 + 7?"


class GetWeather(BaseModel, extra="forbid"):
    """Tells the weather in a city."""

    city: str = Field(max_length=12)
    celsius: bool


class Person(BaseModel, extra="forbid"):
    """Somebody."""

    name: str = Field(max_length=8)
    age: int = Field(ge=0, le=120)


TOOL = {"type": "function", "function": {"name": "GetWeather", "parameters": GetWeather.model_json_schema()}}


def langchain(url: str) -> dict[str, Any]:
    chat = ChatOpenAI(base_url=f"{url}/v1", api_key="-", model="tgi", temperature=0, max_tokens=200)
    called = chat.bind_tools([GetWeather], tool_choice="required", parallel_tool_calls=False).invoke(
        "Weather in Paris?"
    )
    chunks = list(
        chat.bind_tools([GetWeather], tool_choice="required", parallel_tool_calls=False).stream(
            "Weather in Paris?"
        )
    )
    streamed = chunks[0]
    for chunk in chunks[1:]:
        streamed += chunk
    person = chat.with_structured_output(Person, method="json_schema").invoke("Who are you?")
    return {
        "text": chat.invoke(QUESTION).text,
        "streamed": "".join(chunk.text for chunk in chat.stream(QUESTION)),
        "calls": [(call["name"], call["args"]) for call in called.tool_calls],
        "streamed_calls": [(call["name"], call["args"]) for call in streamed.tool_calls],
        "person": person.model_dump(),
    }


def lite(url: str) -> dict[str, Any]:
    def ask(content: str, **fields: Any) -> Any:
        return litellm.completion(
            model="openai/tgi",
            api_base=f"{url}/v1",
            api_key="-",
            messages=[{"role": "user", "content": content}],
            temperature=0,
            max_tokens=200,
            **fields,
        )

    called = ask(
        "Weather in Paris?", tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    ).choices[0]
    deltas = [chunk.choices[0].delta for chunk in ask(QUESTION, stream=True)]
    call_deltas = [
        call
        for chunk in ask(
            "Weather in Paris?", tools=[TOOL], tool_choice="required", parallel_tool_calls=False, stream=True
        )
        for call in chunk.choices[0].delta.tool_calls or []
    ]
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": Person.model_json_schema()}}
    return {
        "text": ask(QUESTION).choices[0].message.content,
        "streamed": "".join(delta.content or "" for delta in deltas),
        "finish_reason": called.finish_reason,
        "calls": [
            (call.function.name, json.loads(call.function.arguments)) for call in called.message.tool_calls
        ],
        "streamed_name": call_deltas[0].function.name,
        "streamed_arguments": "".join(call.function.arguments or "" for call in call_deltas),
        "person": Person.model_validate_json(
            ask("Who are you?", response_format=schema).choices[0].message.content
        ).model_dump(),
    }


if __name__ == "__main__":
    print(json.dumps({"langchain": langchain(sys.argv[1]), "litellm": lite(sys.argv[1])}))
