"""huggingface_hub's InferenceClient and its asynchronous twin, unchanged, against this server."""

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import ValidationError as TextGenerationValidationError

from support.prompts import chat_prompt
from support.server import Server

SUM = chat_prompt("What is 12 + 7?")
QUESTION = [{"role": "user", "content": "What is 12 + 7?"}]


@pytest.fixture
def client(server: Server) -> InferenceClient:
    return InferenceClient(server.url)


def test_text_generation_answers(client: InferenceClient) -> None:
    assert "19" in client.text_generation(SUM, max_new_tokens=20, return_full_text=False)


def test_text_generation_returns_details(client: InferenceClient) -> None:
    output = client.text_generation(
        SUM,
        max_new_tokens=20,
        details=True,
        decoder_input_details=True,
        top_n_tokens=2,
        return_full_text=False,
    )
    assert "19" in output.generated_text
    assert output.details is not None
    assert output.details.finish_reason == "eos_token"
    assert output.details.generated_tokens == len(output.details.tokens)
    assert output.details.prefill[0].logprob is None
    assert all(len(entries) >= 2 for entries in output.details.top_tokens)


def test_text_generation_streams_text(client: InferenceClient) -> None:
    pieces = list(client.text_generation(SUM, max_new_tokens=20, stream=True))
    assert "19" in "".join(pieces)


def test_text_generation_streams_details(client: InferenceClient) -> None:
    outputs = list(
        client.text_generation(SUM, max_new_tokens=20, stream=True, details=True, return_full_text=False)
    )
    assert outputs[-1].details.generated_tokens == len(outputs)
    assert outputs[-1].details.finish_reason == "eos_token"
    assert "19" in outputs[-1].generated_text


def test_text_generation_samples_with_a_seed(client: InferenceClient) -> None:
    drawn = {
        "do_sample": True,
        "temperature": 1.3,
        "top_k": 30,
        "top_p": 0.95,
        "seed": 5,
        "max_new_tokens": 20,
    }
    assert client.text_generation("Hello", **drawn) == client.text_generation("Hello", **drawn)


def test_a_refused_parameter_raises_the_clients_validation_error(client: InferenceClient) -> None:
    with pytest.raises(TextGenerationValidationError, match="temperature"):
        client.text_generation("Hello", temperature=-1.0)


def test_chat_completion_says_nineteen(client: InferenceClient) -> None:
    output = client.chat_completion(QUESTION, max_tokens=20, temperature=0)
    [choice] = output.choices
    assert "19" in choice.message.content
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert output.usage.total_tokens == output.usage.prompt_tokens + output.usage.completion_tokens


def test_chat_completion_streams(client: InferenceClient) -> None:
    chunks = list(client.chat_completion(QUESTION, max_tokens=20, temperature=0, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "19" in text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_chat_completion_streams_usage_when_asked(client: InferenceClient) -> None:
    chunks = list(
        client.chat_completion(
            QUESTION, max_tokens=20, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].usage.completion_tokens > 0


def test_chat_completion_returns_logprobs(client: InferenceClient) -> None:
    output = client.chat_completion(QUESTION, max_tokens=5, temperature=0, logprobs=True, top_logprobs=2)
    content = output.choices[0].logprobs.content
    assert len(content) == output.usage.completion_tokens
    assert all(len(entry.top_logprobs) >= 2 for entry in content)
    assert content[0].token == content[0].top_logprobs[0].token


async def test_the_asynchronous_client_streams_and_chats(server: Server) -> None:
    async with AsyncInferenceClient(server.url) as client:
        stream = await client.text_generation(SUM, max_new_tokens=20, stream=True)
        assert "19" in "".join([piece async for piece in stream])
        output = await client.chat_completion(QUESTION, max_tokens=20, temperature=0)
        assert "19" in output.choices[0].message.content
