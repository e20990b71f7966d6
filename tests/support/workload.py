"""Many different requests at once, and what they were answered."""

import math
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from support.api import Api
from support.prompts import WORDS, chat_prompt, long_text

JOIN_SECONDS = 90.0
SPECIAL_NAME = re.compile(r"<\|\w+\|>")


@dataclass(frozen=True)
class Request:
    """One request to /generate_stream."""

    inputs: str
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        """A short description for failures."""
        return f"{self.inputs[-60:]!r} {self.parameters}"


@dataclass(frozen=True)
class Answer:
    """What came back: everything that must not depend on what else runs."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    input_length: int
    logprobs: tuple[float, ...]

    def same_as(self, other: "Answer") -> bool:
        """The same tokens, text and end; log-probabilities may differ by rounding."""
        return (
            self.token_ids == other.token_ids
            and self.text == other.text
            and self.finish_reason == other.finish_reason
            and self.input_length == other.input_length
            and all(
                math.isclose(a, b, abs_tol=2e-3) for a, b in zip(self.logprobs, other.logprobs, strict=True)
            )
        )


def mixed_requests(count: int) -> list[Request]:
    """Requests of different prompts, lengths, stops and ways of sampling; the same list every time."""
    return [Request(_prompt(number), _lengths(number) | _sampling(number)) for number in range(count)]


def _prompt(number: int) -> str:
    questions = (
        chat_prompt(f"What is {number % 60} + {(7 * number) % 40}?"),
        chat_prompt("Repeat: " + " ".join(WORDS[(number + i) % len(WORDS)] for i in range(2 + number % 5))),
        long_text(20 + 9 * number, start=number),
        chat_prompt(f"Count from {number} to {number + 30}"),
        "Hello" + "!" * (number % 3),
        chat_prompt("Hello!")
        + "Hello! How can I help you?<|im_end|>\n"
        + chat_prompt(f"Count from 1 to {number}"),
        "héllo wörld 🎉🎈 " * (1 + number % 7),
    )
    return questions[number % len(questions)]


def _lengths(number: int) -> dict[str, Any]:
    lengths: dict[str, Any] = {"max_new_tokens": (1, 5, 18, 33, 64, 90)[number % 6]}
    if number % 5 == 2:
        lengths["stop"] = ["9", " blue"]
    if number % 11 == 3:
        lengths["truncate"] = 40
    if number % 9 == 4:
        lengths["top_n_tokens"] = 3
    return lengths


def _sampling(number: int) -> dict[str, Any]:
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"do_sample": True},
        {},
        {"temperature": 0.8, "top_k": 20},
        {"repetition_penalty": 1.3},
        {"temperature": 1.4, "top_p": 0.9},
        {},
        {"typical_p": 0.8, "frequency_penalty": 0.5},
        {"frequency_penalty": 0.7},
        {"top_k": 5, "top_p": 0.7, "temperature": 2.0, "repetition_penalty": 1.1},
    )
    way = ways[number % len(ways)]
    samples = way.keys() & {"do_sample", "temperature", "top_k", "top_p", "typical_p"}
    return way | {"seed": 1000 + number} if samples else way


def ask(api: Api, request: Request) -> Answer:
    """Send one request as a stream and check that its pieces fit together."""
    events = api.generate_events(request.inputs, **request.parameters)
    assert events, f"no event for {request.name}"
    assert "error" not in events[-1], f"{request.name}: {events[-1]}"
    assert [event["index"] for event in events] == list(range(1, len(events) + 1))
    last = events[-1]
    assert streamed_text(events) == last["generated_text"], f"streamed text is not the text of {request.name}"
    assert last["details"]["generated_tokens"] == len(events)
    return Answer(
        token_ids=tuple(event["token"]["id"] for event in events),
        text=last["generated_text"],
        finish_reason=last["details"]["finish_reason"],
        input_length=last["details"]["input_length"],
        logprobs=tuple(event["token"]["logprob"] for event in events),
    )


def streamed_text(events: Sequence[dict[str, Any]]) -> str:
    """What a stream's tokens add up to, without the names of special tokens.

    Bytes that never became a character come as U+FFFD with a later token, which may be a special one.
    """
    return "".join(SPECIAL_NAME.sub("", event["token"]["text"]) for event in events)


def ask_alone(api: Api, requests: Sequence[Request]) -> list[Answer]:
    """Send the requests one after the other."""
    return [ask(api, request) for request in requests]


def ask_together(api: Api, requests: Sequence[Request]) -> list[Answer]:
    """Send all requests at the same moment."""
    start = threading.Barrier(len(requests), timeout=JOIN_SECONDS)

    def go(request: Request) -> Answer:
        start.wait()
        return ask(api, request)

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(go, requests))


def differences(requests: Sequence[Request], left: Sequence[Answer], right: Sequence[Answer]) -> list[str]:
    """One line for each request whose two answers are not the same."""
    return [
        f"{request.name}: {a.text!r} ({a.finish_reason}) != {b.text!r} ({b.finish_reason})"
        for request, a, b in zip(requests, left, right, strict=True)
        if not a.same_as(b)
    ]
