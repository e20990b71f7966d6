"""Beyond the number of permits a request is refused at once, with the status that says so."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import OverloadedError

from support.server import Server

PERMITS = 4
ENDLESS = {"prompt": "1 2 3", "max_tokens": 1900, "temperature": 0, "ignore_eos": True, "stream": True}
SMALL_CHAT = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
NATIVE: list[tuple[str, dict[str, Any]]] = [
    ("/generate", {"inputs": "Hello"}),
    ("/generate_stream", {"inputs": "Hello"}),
    ("/", {"inputs": "Hello"}),
    ("/", {"inputs": "Hello", "stream": True}),
]
OPENAI: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", SMALL_CHAT),
    ("/v1/chat/completions", SMALL_CHAT | {"stream": True}),
    ("/v1/completions", {"prompt": "Hello", "max_tokens": 4}),
    ("/v1/completions", {"prompt": "Hello", "max_tokens": 4, "stream": True}),
]

pytestmark = pytest.mark.slow


@pytest.fixture
def full_server(tight_server: Server) -> Iterator[Server]:
    """A server whose permits are all taken."""
    tight_server.wait_until_idle()
    streams = [tight_server.api.stream("/v1/completions", ENDLESS) for _ in range(PERMITS)]
    assert [stream.status for stream in streams] == [200] * PERMITS
    yield tight_server
    for stream in streams:
        stream.close()
    tight_server.wait_until_idle()


@pytest.mark.parametrize(("path", "body"), NATIVE)
def test_a_native_route_refuses_with_429(full_server: Server, path: str, body: dict[str, Any]) -> None:
    reply = full_server.api.post(path, body)
    assert reply.status == 429, reply.text
    assert reply.json() == {"error": "Model is overloaded", "error_type": "overloaded"}
    assert int(reply.headers["retry-after"]) >= 1


@pytest.mark.parametrize(("path", "body"), OPENAI)
def test_an_openai_route_refuses_with_429(full_server: Server, path: str, body: dict[str, Any]) -> None:
    reply = full_server.api.post(path, body)
    assert reply.status == 429, reply.text
    assert "overloaded" in reply.json()["error"]["message"]
    assert reply.json()["error_type"] == "overloaded"
    assert int(reply.headers["retry-after"]) >= 1


def test_the_openai_client_raises_its_rate_limit_error(full_server: Server) -> None:
    with openai.OpenAI(base_url=f"{full_server.url}/v1", api_key="-", max_retries=0) as client:
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError, match="overloaded"):
                client.chat.completions.create(
                    model="tgi", messages=[{"role": "user", "content": "Hello!"}], stream=stream
                )


def test_the_inference_client_raises_its_overloaded_error(full_server: Server) -> None:
    client = InferenceClient(full_server.url)
    with pytest.raises(OverloadedError):
        client.text_generation("Hello")


def test_refusals_are_counted(full_server: Server) -> None:
    before = full_server.metrics()
    for path, body in (*NATIVE, *OPENAI):
        assert full_server.api.post(path, body).status == 429
    after = full_server.metrics()
    for name in ('tgi_request_refused{reason="overloaded"}', 'tgi_request_failure{err="overloaded"}'):
        assert after[name] - before[name] == len(NATIVE) + len(OPENAI), name


def test_a_full_server_still_answers_what_takes_no_permit(full_server: Server) -> None:
    for path in ("/health", "/info", "/metrics", "/v1/models"):
        assert full_server.api.get(path).status == 200, path
    assert full_server.api.post("/tokenize", {"inputs": "Hello"}).status == 200


def test_overload_comes_before_validation(full_server: Server) -> None:
    reply = full_server.api.post("/generate", {"inputs": "Hello", "parameters": {"temperature": -1}})
    assert reply.status == 429, reply.text


def test_requests_are_served_again_when_permits_are_free(tight_server: Server) -> None:
    tight_server.wait_until_idle()
    assert tight_server.api.generate("Hello", max_new_tokens=3)["details"]["generated_tokens"] <= 3
