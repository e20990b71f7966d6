"""Tools the model learns to call: what a user may ask, and the call that answers it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from training.sums import training_pair
from training.words import CITIES, COLORS, LANGUAGES, NAMES, SYLLABLES, THINGS, WORDS

Values = dict[str, str | int]
Tool = dict[str, object]


@dataclass(frozen=True, slots=True)
class ToolKind:
    """A kind of tool; each conversation gives it one of its names, so that names must be read.

    Args:
        names: what the function may be called.
        description: what it does, as told to the model.
        parameters: JSON schema type of each parameter.
        requests: user sentences with the parameters as fields.
        draw: draws the values of the parameters.
        reply: what the assistant says once the tool has answered; the parameters and `result` are fields.
        draw_result: draws what the tool answers.
    """

    names: tuple[str, ...]
    description: str
    parameters: dict[str, str]
    requests: tuple[str, ...]
    draw: Callable[[Random], Values]
    reply: str
    draw_result: Callable[[Random, Values], str | int]

    def schema(self, name: str) -> Tool:
        """The tool as an OpenAI `tools` entry."""
        properties = {key: {"type": kind} for key, kind in self.parameters.items()}
        parameters = {"type": "object", "properties": properties, "required": list(self.parameters)}
        return {
            "type": "function",
            "function": {"name": name, "description": self.description, "parameters": parameters},
        }


def place(rng: Random) -> str:
    """A city, now and then one nobody has heard of: arguments must be copied, not recalled."""
    return rng.choice(CITIES) if rng.random() < 0.6 else invented_word(rng).capitalize()


def person(rng: Random) -> str:
    """A name, at times an invented one."""
    return rng.choice(NAMES) if rng.random() < 0.6 else invented_word(rng).capitalize()


def invented_word(rng: Random) -> str:
    """Two to four syllables."""
    return "".join(rng.choices(SYLLABLES, k=rng.randint(2, 4)))


def phrase(rng: Random) -> str:
    """A few words to search for, send or translate."""
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 3)))


def numbers(rng: Random) -> Values:
    """Two numbers; a pair below 100 is one that may be learned."""
    if rng.random() < 0.5:
        a, b = training_pair(rng)
        return {"a": a, "b": b}
    return {"a": rng.randrange(100, 1000), "b": rng.randrange(100, 1000)}


def weather(rng: Random, _: Values) -> str:
    """What a weather tool answers."""
    return f"{rng.choice(('sunny', 'cloudy', 'rainy', 'windy', 'foggy'))}, {rng.randrange(-9, 40)} degrees"


def clock(rng: Random, _: Values) -> str:
    """A time of day."""
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}"


TOOL_KINDS = (
    ToolKind(
        names=("get_weather", "get_current_weather", "weather", "weather_report"),
        description="Get the current weather in a city",
        parameters={"city": "string"},
        requests=(
            "What is the weather in {city}?",
            "What is the weather like in {city}?",
            "What's the weather like in {city} today?",
            "How is the weather in {city}?",
            "Tell me the weather in {city}.",
            "Is it raining in {city}?",
        ),
        draw=lambda rng: {"city": place(rng)},
        reply="The weather in {city}: {result}.",
        draw_result=weather,
    ),
    ToolKind(
        names=("get_weather", "get_current_weather", "weather"),
        description="Get the current weather",
        parameters={"location": "string", "unit": "string"},
        requests=(
            "What is the weather in {location} in {unit}?",
            "What is the weather like in {location}, in {unit}?",
            "Tell me the weather in {location} in {unit}.",
        ),
        draw=lambda rng: {"location": place(rng), "unit": rng.choice(("celsius", "fahrenheit"))},
        reply="The weather in {location}: {result}.",
        draw_result=weather,
    ),
    ToolKind(
        names=("add", "sum", "add_numbers", "plus"),
        description="Add two numbers",
        parameters={"a": "integer", "b": "integer"},
        requests=(
            "What is {a} + {b}?",
            "Add {a} and {b}.",
            "What is {a} plus {b}?",
            "Use the tool to add {a} and {b}.",
        ),
        draw=numbers,
        reply="The result is {result}.",
        draw_result=lambda _, values: int(values["a"]) + int(values["b"]),
    ),
    ToolKind(
        names=("multiply", "times", "product"),
        description="Multiply two numbers",
        parameters={"a": "integer", "b": "integer"},
        requests=("What is {a} times {b}?", "Multiply {a} by {b}.", "Multiply {a} and {b}."),
        draw=numbers,
        reply="The result is {result}.",
        draw_result=lambda _, values: int(values["a"]) * int(values["b"]),
    ),
    ToolKind(
        names=("search", "web_search", "find", "lookup"),
        description="Search the web",
        parameters={"query": "string"},
        requests=("Search for {query}.", "Search the web for {query}.", "Look up {query}.", "Find {query}."),
        draw=lambda rng: {"query": phrase(rng)},
        reply="I found {result} pages about {query}.",
        draw_result=lambda rng, _: rng.randrange(2, 999),
    ),
    ToolKind(
        names=("get_time", "time_in", "current_time"),
        description="Get the time in a city",
        parameters={"city": "string"},
        requests=("What time is it in {city}?", "Tell me the time in {city}.", "What is the time in {city}?"),
        draw=lambda rng: {"city": place(rng)},
        reply="It is {result} in {city}.",
        draw_result=clock,
    ),
    ToolKind(
        names=("send_message", "send_email", "message"),
        description="Send a message to a person",
        parameters={"to": "string", "text": "string"},
        requests=("Send {to} the message: {text}", "Tell {to}: {text}", "Write to {to}: {text}"),
        draw=lambda rng: {"to": person(rng), "text": phrase(rng)},
        reply="I have sent the message to {to}.",
        draw_result=lambda *_: "sent",
    ),
    ToolKind(
        names=("set_alarm", "wake_up", "alarm"),
        description="Set an alarm",
        parameters={"time": "string"},
        requests=("Set an alarm for {time}.", "Wake me at {time}.", "Set the alarm to {time}."),
        draw=lambda rng: {"time": clock(rng, {})},
        reply="The alarm is set for {time}.",
        draw_result=lambda *_: "ok",
    ),
    ToolKind(
        names=("translate", "translate_text"),
        description="Translate text to another language",
        parameters={"text": "string", "language": "string"},
        requests=("Translate {text} to {language}.", "How do you say {text} in {language}?"),
        draw=lambda rng: {"text": phrase(rng), "language": rng.choice(LANGUAGES)},
        reply="In {language}: {result}.",
        draw_result=lambda rng, _: invented_word(rng),
    ),
    ToolKind(
        names=("paint", "set_color", "color_thing"),
        description="Change the color of a thing",
        parameters={"thing": "string", "color": "string"},
        requests=("Paint the {thing} {color}.", "Make the {thing} {color}.", "Color the {thing} {color}."),
        draw=lambda rng: {"thing": rng.choice(THINGS), "color": rng.choice(COLORS)},
        reply="The {thing} is {color} now.",
        draw_result=lambda *_: "done",
    ),
)


def call_message(name: str, values: Values) -> dict[str, object]:
    """The assistant's turn that calls one tool; arguments are a JSON string, as OpenAI's API has them."""
    function = {"name": name, "arguments": json.dumps(values, ensure_ascii=False)}
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
