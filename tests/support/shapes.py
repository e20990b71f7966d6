"""Checks of the response shapes that TGI publishes: keys, their order, and types."""

from collections.abc import Sequence
from typing import Any

FINISH_REASONS = {"length", "eos_token", "stop_sequence"}
DETAILS_KEYS = ("finish_reason", "generated_tokens", "seed", "prefill", "tokens")


def check_token(token: dict[str, Any]) -> None:
    """A generated token."""
    assert list(token) == ["id", "text", "logprob", "special"], token
    assert isinstance(token["id"], int)
    assert isinstance(token["text"], str)
    assert isinstance(token["logprob"], float)
    assert token["logprob"] <= 1e-6
    assert isinstance(token["special"], bool)


def check_top_tokens(entries: Sequence[dict[str, Any]], wanted: int) -> None:
    """The most likely tokens of one place: at least as many as wanted, best first, none twice."""
    assert len(entries) >= wanted
    for entry in entries:
        check_token(entry)
    logprobs = [entry["logprob"] for entry in entries]
    assert logprobs == sorted(logprobs, reverse=True)
    assert len({entry["id"] for entry in entries}) == len(entries)


def check_prefill(prefill: Sequence[dict[str, Any]]) -> None:
    """The prompt's tokens: the first has no log-probability, all others do."""
    assert prefill
    for token in prefill:
        assert list(token) == ["id", "text", "logprob"], token
    assert prefill[0]["logprob"] is None
    assert all(isinstance(token["logprob"], float) for token in prefill[1:])


def check_details(details: dict[str, Any], top_n_tokens: int = 0) -> None:
    """The `details` of /generate without best_of."""
    assert list(details) == [*DETAILS_KEYS, *(["top_tokens"] if top_n_tokens else [])], list(details)
    assert details["finish_reason"] in FINISH_REASONS
    assert details["seed"] is None or isinstance(details["seed"], int)
    assert details["generated_tokens"] == len(details["tokens"])
    for token in details["tokens"]:
        check_token(token)
    if details["prefill"]:
        check_prefill(details["prefill"])
    if top_n_tokens:
        assert len(details["top_tokens"]) == len(details["tokens"])
        for entries in details["top_tokens"]:
            check_top_tokens(entries, top_n_tokens)


def check_stream_events(events: Sequence[dict[str, Any]], top_n_tokens: int = 0) -> None:
    """All events of /generate_stream."""
    keys = ["index", "token", *(["top_tokens"] if top_n_tokens else []), "generated_text", "details"]
    for number, event in enumerate(events, start=1):
        assert list(event) == keys, list(event)
        assert event["index"] == number
        check_token(event["token"])
        if top_n_tokens:
            check_top_tokens(event["top_tokens"], top_n_tokens)
    for event in events[:-1]:
        assert event["generated_text"] is None
        assert event["details"] is None
    assert isinstance(events[-1]["generated_text"], str)


def check_stream_details(details: dict[str, Any]) -> None:
    """The `details` of a stream's last event."""
    assert list(details) == ["finish_reason", "generated_tokens", "seed", "input_length"], list(details)
    assert details["finish_reason"] in FINISH_REASONS
