"""What the server refuses, and how it says so."""

import json
from typing import Any

import pytest

from support.api import JSON_HEADERS
from support.prompts import long_text
from support.server import Server

GENERATE = "/generate"
STREAM = "/generate_stream"
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

# Parameters of /generate, and what the refusal must name.
BAD_PARAMETERS: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0.0}, "temperature"),
    ({"temperature": -1.0}, "temperature"),
    ({"repetition_penalty": 0.0}, "repetition_penalty"),
    ({"frequency_penalty": 2.5}, "frequency_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"top_p": 0.0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"typical_p": 0.0}, "typical_p"),
    ({"typical_p": 1.5}, "typical_p"),
    ({"top_k": 0}, "top_k"),
    ({"top_k": -3}, "top_k"),
    ({"max_new_tokens": 0}, "max_new_tokens"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"top_n_tokens": 21}, "top_n_tokens"),
    ({"truncate": 0}, "truncate"),
    ({"truncate": 1_000_000}, "truncate"),
    ({"max_new_tokens": 1_000_000}, "max_new_tokens"),
    ({"best_of": 2}, "sampling"),
    ({"best_of": 2, "do_sample": True, "seed": 3}, "seed"),
    ({"best_of": 3, "do_sample": True}, "best_of"),
    ({"grammar": {"type": "regex", "value": "[0-9"}}, "grammar"),
    ({"grammar": {"type": "json", "value": {"type": "nothing"}}}, "grammar"),
    ({"adapter_id": "no/such-adapter"}, "adapter"),
]
# The same table for streams leaves out what only exists for whole answers.
BAD_STREAM_PARAMETERS: list[tuple[dict[str, Any], str]] = [
    *(row for row in BAD_PARAMETERS if "best_of" not in row[0]),
    ({"best_of": 2, "do_sample": True}, "best_of"),
    ({"decoder_input_details": True}, "decoder_input_details"),
]
# Well-formed JSON of wrong types, and the path that the refusal must name.
WRONG_TYPES: list[tuple[str, Any, str]] = [
    (GENERATE, {}, "inputs"),
    (GENERATE, {"inputs": 12}, "inputs"),
    (GENERATE, {"inputs": ["Hello"]}, "inputs"),
    (GENERATE, [], "object"),
    (GENERATE, {"inputs": "Hello", "parameters": {"temperature": "hot"}}, "parameters.temperature"),
    (GENERATE, {"inputs": "Hello", "parameters": {"max_new_tokens": 1.5}}, "parameters.max_new_tokens"),
    (GENERATE, {"inputs": "Hello", "parameters": {"max_new_tokens": -1}}, "parameters.max_new_tokens"),
    (GENERATE, {"inputs": "Hello", "parameters": {"seed": -1}}, "parameters.seed"),
    (GENERATE, {"inputs": "Hello", "parameters": {"seed": 2**64}}, "seed"),
    (GENERATE, {"inputs": "Hello", "parameters": {"stop": [1]}}, "parameters.stop"),
    (GENERATE, {"inputs": "Hello", "parameters": {"do_sample": "yes"}}, "parameters.do_sample"),
    (STREAM, {"inputs": None}, "inputs"),
    ("/", {"inputs": "Hello", "stream": "yes"}, "stream"),
    ("/tokenize", {"input": "Hello"}, "inputs"),
    (CHAT, {}, "messages"),
    (CHAT, {"messages": "Hello"}, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": "ten"}, "max_tokens"),
    (CHAT, {"messages": [{"role": "user", "content": "Hi"}], "temperature": []}, "temperature"),
    (COMPLETIONS, {"max_tokens": 3}, "prompt"),
    (COMPLETIONS, {"prompt": "Hi", "stream": "yes"}, "stream"),
]
SMALL_BODIES: dict[str, dict[str, Any]] = {
    GENERATE: {"inputs": "Hello", "parameters": {"max_new_tokens": 1}},
    STREAM: {"inputs": "Hello", "parameters": {"max_new_tokens": 1}},
    "/": {"inputs": "Hello", "parameters": {"max_new_tokens": 1}},
    "/tokenize": {"inputs": "Hello"},
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    COMPLETIONS: {"prompt": "Hello", "max_tokens": 1},
}
HI = {"messages": [{"role": "user", "content": "Hi"}]}
BAD_OPENAI: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, HI | {"temperature": -0.5}, "temperature"),
    (CHAT, HI | {"top_p": 1.5}, "top_p"),
    (CHAT, HI | {"top_p": 0.0}, "top_p"),
    (CHAT, HI | {"frequency_penalty": 3}, "frequency_penalty"),
    (CHAT, HI | {"max_tokens": 0}, "max_"),
    (CHAT, HI | {"max_tokens": 1_000_000}, "max_"),
    (CHAT, HI | {"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    (CHAT, HI | {"logprobs": True, "top_logprobs": 21}, "top_"),
    (CHAT, HI | {"n": 0}, "n"),
    (CHAT, HI | {"response_format": {"type": "xml"}}, "response_format"),
    (COMPLETIONS, {"prompt": "Hi", "temperature": -0.5}, "temperature"),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 0}, "max_"),
    (COMPLETIONS, {"prompt": "Hi", "max_tokens": 1_000_000}, "max_"),
    (COMPLETIONS, {"prompt": "Hi", "suffix": "there"}, "suffix"),
]


def named(values: list[Any]) -> list[str]:
    return [str(value)[:60] for value in values]


@pytest.mark.parametrize(
    ("parameters", "named"), BAD_PARAMETERS, ids=named([row[0] for row in BAD_PARAMETERS])
)
def test_a_bad_parameter_is_a_validation_error(
    server: Server, parameters: dict[str, Any], named: str
) -> None:
    reply = server.api.post(GENERATE, {"inputs": "Hello", "parameters": parameters})
    assert reply.status == 422, reply.text
    assert list(reply.json()) == ["error", "error_type"]
    assert reply.json()["error_type"] == "validation"
    assert reply.json()["error"].startswith("Input validation error: ")
    assert named in reply.json()["error"]


@pytest.mark.parametrize(
    ("parameters", "named"), BAD_STREAM_PARAMETERS, ids=named([row[0] for row in BAD_STREAM_PARAMETERS])
)
def test_a_bad_parameter_is_refused_before_the_stream_starts(
    server: Server, parameters: dict[str, Any], named: str
) -> None:
    reply = server.api.post(STREAM, {"inputs": "Hello", "parameters": parameters})
    assert reply.status == 422, reply.text
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.json()["error_type"] == "validation"
    assert named in reply.json()["error"]


@pytest.mark.parametrize(("path", "body", "named"), WRONG_TYPES, ids=named(WRONG_TYPES))
def test_a_wrong_type_is_refused_with_its_path(server: Server, path: str, body: Any, named: str) -> None:
    reply = server.api.post(path, body)
    assert reply.status == 422, reply.text
    assert reply.json()["error_type"]
    assert named in message_of(reply.json())


@pytest.mark.parametrize(("path", "body", "named"), BAD_OPENAI, ids=named(BAD_OPENAI))
@pytest.mark.parametrize("stream", [False, True])
def test_openai_routes_refuse_in_openai_words(
    server: Server, path: str, body: dict[str, Any], named: str, stream: bool
) -> None:
    reply = server.api.post(path, body | {"stream": stream})
    assert reply.status in {400, 422}, reply.text
    assert {"message", "type"} <= reply.json()["error"].keys()
    assert reply.json()["error_type"]
    assert named in reply.json()["error"]["message"]


@pytest.mark.parametrize("cut", ["", "{", "not json", '{"inputs": "Hello"', "\udcff\udcfe"])
@pytest.mark.parametrize("path", SMALL_BODIES)
def test_broken_json_is_400(server: Server, path: str, cut: str) -> None:
    reply = server.api.post(path, cut.encode(errors="surrogateescape"))
    assert reply.status == 400, reply.text
    assert reply.json()["error_type"]
    assert message_of(reply.json())


@pytest.mark.parametrize("path", SMALL_BODIES)
def test_bytes_after_the_json_value_are_refused(server: Server, path: str) -> None:
    whole = json.dumps(SMALL_BODIES[path]).encode()
    assert server.api.post(path, whole + b"  \n").status == 200
    reply = server.api.post(path, whole + b" trailing")
    assert reply.status == 400, reply.text
    assert reply.json()["error_type"]


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, {"content-type": "application/xml"}])
def test_a_body_that_is_not_declared_as_json_is_415(server: Server, headers: dict[str, str]) -> None:
    reply = server.api.post(GENERATE, b'{"inputs": "Hello"}', headers)
    assert reply.status == 415, reply.text
    assert reply.json()["error_type"]


def test_json_with_a_charset_or_a_json_suffix_is_taken(server: Server) -> None:
    for content_type in ("application/json; charset=utf-8", "application/vnd.api+json"):
        body = b'{"inputs": "Hello", "parameters": {"max_new_tokens": 1}}'
        assert server.api.post(GENERATE, body, {"content-type": content_type}).status == 200, content_type


def test_a_body_above_the_payload_limit_is_413_and_one_at_the_limit_passes(server: Server) -> None:
    limit = 2_000_000
    body = b'{"inputs": "Hello", "parameters": {"max_new_tokens": 1}}'
    assert server.api.post(GENERATE, body + b" " * (limit - len(body))).status == 200
    reply = server.api.post(GENERATE, body + b" " * (limit + 1 - len(body)))
    assert reply.status == 413, reply.text
    assert reply.json()["error_type"]


def test_an_empty_prompt_is_refused(server: Server) -> None:
    reply = server.api.post(GENERATE, {"inputs": ""})
    assert (reply.status, reply.json()["error_type"]) == (422, "validation")


def test_a_prompt_above_the_limit_is_refused_with_the_numbers(server: Server) -> None:
    limit = server.api.get("/info").json()["max_total_tokens"]
    reply = server.api.post(GENERATE, {"inputs": long_text(3 * limit), "parameters": {"max_new_tokens": 1}})
    assert (reply.status, reply.json()["error_type"]) == (422, "validation")
    assert str(limit) in reply.json()["error"]


def test_prompt_and_new_tokens_may_fill_the_limit_exactly_but_not_exceed_it(server: Server) -> None:
    limit = server.api.get("/info").json()["max_total_tokens"]
    prompt = "Hello there"
    length = len(server.api.post("/tokenize", {"inputs": prompt}).json())
    reply = server.api.post(
        GENERATE, {"inputs": prompt, "parameters": {"max_new_tokens": limit - length + 1}}
    )
    assert (reply.status, reply.json()["error_type"]) == (422, "validation")
    assert str(limit) in reply.json()["error"]
    body = {"inputs": prompt, "parameters": {"max_new_tokens": limit - length, "stop": [" ", "e", "a", "o"]}}
    assert server.api.post(GENERATE, body).status == 200


def test_unknown_fields_are_ignored(server: Server) -> None:
    body = {"inputs": "Hello", "parameters": {"max_new_tokens": 1, "no_such": 1}, "stream": True, "other": {}}
    reply = server.api.post(GENERATE, body)
    assert reply.status == 200
    assert "generated_text" in reply.json()


def test_unknown_paths_are_404_and_wrong_methods_405(server: Server) -> None:
    assert server.api.get("/no/such/path").status == 404
    assert server.api.post("/no/such/path", {}).status == 404
    reply = server.api.get(GENERATE)
    assert reply.status == 405
    assert "POST" in reply.headers["allow"]
    assert server.api.post("/info", {}).status == 405


def test_refusals_are_counted_as_validation_failures(server: Server) -> None:
    name = 'tgi_request_failure{err="validation"}'
    before = server.metrics()[name]
    server.api.post(GENERATE, {"inputs": "Hello", "parameters": {"temperature": -1}})
    server.api.post(STREAM, {"inputs": "Hello", "parameters": {"top_k": 0}})
    assert server.metrics()[name] - before == 2


def test_a_refused_request_leaves_the_server_idle(server: Server) -> None:
    server.api.post(GENERATE, {"inputs": "Hello", "parameters": {"temperature": -1}})
    server.wait_until_idle()
    assert (
        server.api.post(
            GENERATE, b'{"inputs": "Hello", "parameters": {"max_new_tokens": 1}}', JSON_HEADERS
        ).status
        == 200
    )


def message_of(body: dict[str, Any]) -> str:
    """The text of an error in either shape."""
    error = body["error"]
    message: str = error["message"] if isinstance(error, dict) else error
    return message
