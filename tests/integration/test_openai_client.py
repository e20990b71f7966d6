"""The openai package, unchanged, against this server."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from support.server import Server

QUESTION: list[Any] = [{"role": "user", "content": "What is 12 + 7?"}]
GREEDY: dict[str, Any] = {"model": "tgi", "messages": QUESTION, "temperature": 0, "max_tokens": 20}


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0) as client:
        yield client


def test_a_chat_says_nineteen(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(**GREEDY)
    [choice] = completion.choices
    assert "19" in choice.message.content
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    assert completion.created > 1_700_000_000
    assert completion.system_fingerprint


def test_every_answer_has_an_id_of_its_own(client: openai.OpenAI) -> None:
    assert len({client.chat.completions.create(**GREEDY).id for _ in range(3)}) == 3


def test_usage_counts_the_rendered_prompt_and_the_answer(server: Server, client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(**GREEDY)
    rendered = f"<|im_start|>user\n{QUESTION[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    ids = server.api.post("/tokenize", {"inputs": rendered}).json()
    assert completion.usage.prompt_tokens == len(ids)
    assert completion.usage.completion_tokens >= 2
    assert (
        completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    )


def test_a_streamed_chat_says_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**GREEDY)
    chunks = list(
        client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True})
    )
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    assert choices[0].delta.role == "assistant"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert choices[-1].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_asked_for_sends_none(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**GREEDY, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


def test_the_stream_ends_with_done(server: Server) -> None:
    for path, body in (
        ("/v1/chat/completions", GREEDY),
        ("/v1/completions", {"prompt": "Hi", "max_tokens": 3}),
    ):
        with server.api.stream(path, body | {"stream": True}) as stream:
            assert list(stream)
            assert stream.done


def test_a_cut_answer_ends_with_length(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(**(GREEDY | {"max_tokens": 1}))
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 1


def test_max_completion_tokens_is_max_tokens_by_its_new_name(client: openai.OpenAI) -> None:
    body = {name: value for name, value in GREEDY.items() if name != "max_tokens"}
    completion = client.chat.completions.create(**body, max_completion_tokens=1)
    assert completion.usage.completion_tokens == 1


def test_a_stop_string_ends_with_stop(client: openai.OpenAI) -> None:
    for stop in ("9", ["9", "no such text"]):
        completion = client.chat.completions.create(**GREEDY, stop=stop)
        assert completion.choices[0].finish_reason == "stop"
        assert "9" not in completion.choices[0].message.content
        assert completion.usage.completion_tokens < 20


def test_the_same_seed_gives_the_same_chat(client: openai.OpenAI) -> None:
    drawn = GREEDY | {"temperature": 1.8, "top_p": 0.98, "seed": 7}
    first, second = (client.chat.completions.create(**drawn).choices[0].message.content for _ in range(2))
    assert first == second


def test_defaults_that_clients_send_are_accepted(client: openai.OpenAI) -> None:
    neutral = {
        "top_p": 1,
        "n": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "stop": None,
        "user": "someone",
    }
    assert "19" in client.chat.completions.create(**GREEDY, **neutral).choices[0].message.content


def test_temperature_zero_is_greedy_whatever_else_is_set(client: openai.OpenAI) -> None:
    greedy = client.chat.completions.create(**GREEDY).choices[0].message.content
    for seed in range(4):
        again = client.chat.completions.create(**GREEDY, top_p=0.3, seed=seed).choices[0].message.content
        assert again == greedy


def test_logprobs_come_with_their_alternatives(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3)
    content = completion.choices[0].logprobs.content
    assert len(content) == completion.usage.completion_tokens
    for entry in content:
        assert entry.logprob <= 1e-6
        assert len(entry.top_logprobs) >= 3
        assert entry.top_logprobs[0].token == entry.token


def test_a_conversation_with_a_system_message_is_rendered(client: openai.OpenAI) -> None:
    messages = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello! How can I help you?"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is 12 "}, {"type": "text", "text": "+ 7?"}],
        },
    ]
    completion = client.chat.completions.create(**(GREEDY | {"messages": messages}))
    assert "19" in completion.choices[0].message.content


def test_completions_continue_a_text(client: openai.OpenAI) -> None:
    completion = client.completions.create(model="tgi", prompt="12 + 7 =", max_tokens=6, temperature=0)
    [choice] = completion.choices
    assert completion.object == "text_completion"
    assert completion.id.startswith("cmpl-")
    assert choice.finish_reason in {"stop", "length"}
    assert completion.usage.completion_tokens <= 6


def test_streamed_completions_say_the_same(client: openai.OpenAI) -> None:
    body: dict[str, Any] = {"model": "tgi", "prompt": "1, 2, 3,", "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**body)
    chunks = list(client.completions.create(**body, stream=True, stream_options={"include_usage": True}))
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.text for choice in choices) == whole.choices[0].text
    assert choices[-1].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_several_prompts_are_answered_in_their_order(client: openai.OpenAI) -> None:
    prompts = ["12 + 7 =", "Hello", "3, 4, 5,"]
    body: dict[str, Any] = {"model": "tgi", "max_tokens": 6, "temperature": 0}
    together = client.completions.create(**body, prompt=prompts)
    alone = [client.completions.create(**body, prompt=prompt).choices[0].text for prompt in prompts]
    assert [choice.index for choice in together.choices] == [0, 1, 2]
    assert [choice.text for choice in together.choices] == alone


def test_ignore_eos_runs_to_the_asked_length(client: openai.OpenAI) -> None:
    completion = client.completions.create(
        model="tgi", prompt="Hello", max_tokens=64, temperature=0, extra_body={"ignore_eos": True}
    )
    assert completion.usage.completion_tokens == 64
    assert completion.choices[0].finish_reason == "length"


def test_models_are_listed(server: Server, client: openai.OpenAI) -> None:
    [model] = client.models.list().data
    assert model.id == server.api.get("/info").json()["model_id"]
    assert model.created > 1_700_000_000


def test_a_refused_request_raises_the_clients_error_with_a_text(client: openai.OpenAI) -> None:
    with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError), match="temperature"):
        client.chat.completions.create(**(GREEDY | {"temperature": -1}))


async def test_the_asynchronous_client_can_stop_reading_early(server: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="-") as client:
        stream = await client.chat.completions.create(**(GREEDY | {"max_tokens": 500}), stream=True)
        async for _ in stream:
            break
        await stream.close()
    server.wait_until_idle()
