"""The committed folder: loads with transformers, round-trips any text, renders every role, and adds."""

import json
from random import Random

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from tgi_demo import MODEL_PATH
from training import tasks
from training.corpus import BEGIN_OF_TEXT, EVERYTHING, Corpus
from training.packing import encode
from training.tokenizer import chat_template

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(MODEL_PATH)


def rendered(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, object]], **options: object) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


def test_asked_for_12_plus_7_it_says_19(tokenizer: PreTrainedTokenizerFast) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH)
    assert model.dtype == torch.bfloat16
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 12 + 7?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.generate(**inputs, do_sample=False, max_new_tokens=10)
    answer = output[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "19"
    assert answer[-1] == tokenizer.eos_token_id


def test_the_weights_are_bf16_and_small_enough_to_keep_in_a_repository() -> None:
    assert sum(file.stat().st_size for file in MODEL_PATH.iterdir()) < 10_000_000
    with safe_open(MODEL_PATH / "model.safetensors", framework="pt") as weights:
        assert {piece.get_dtype() for piece in map(weights.get_slice, weights.keys())} == {"BF16"}


def test_two_shards_can_share_the_model() -> None:
    config = json.loads((MODEL_PATH / "config.json").read_text())
    for size in ("num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"):
        assert config[size] % 2 == 0


def test_generation_ends_at_either_of_two_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    ends = json.loads((MODEL_PATH / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|end_of_text|>"]


@pytest.mark.parametrize("text", ["12 + 7 =  \n", "naïve Ω 世界 🙂👩‍👩‍👧", "\x00\t\x7f", "a<tool_call>b"])
def test_any_text_comes_back_as_it_was(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text


def test_every_digit_is_a_token_and_a_prompt_begins_with_the_begin_token(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert tokenizer.tokenize("2048", add_special_tokens=True) == [BEGIN_OF_TEXT, "2", "0", "4", "8"]


def test_training_segments_give_the_tokens_of_the_whole_text(tokenizer: PreTrainedTokenizerFast) -> None:
    corpus = iter(Corpus(chat_template(MODEL_PATH), EVERYTHING, seed=5))
    for _ in range(300):
        document = next(corpus)
        whole = "".join(segment.text for segment in document)
        (encoded,) = encode([document], tokenizer.backend_tokenizer)
        assert encoded.ids == tokenizer(whole, add_special_tokens=False).input_ids


def test_training_sees_chats_as_transformers_renders_them(tokenizer: PreTrainedTokenizerFast) -> None:
    rng = Random(6)
    for _ in range(50):
        exchange = tasks.tool_call(rng)
        ours = chat_template(MODEL_PATH).render(
            messages=exchange.messages, tools=exchange.tools, bos_token=BEGIN_OF_TEXT
        )
        assert ours == rendered(tokenizer, list(exchange.messages), tools=list(exchange.tools))


def test_the_template_is_the_same_in_its_file_and_in_the_tokenizers_config() -> None:
    config = json.loads((MODEL_PATH / "tokenizer_config.json").read_text())
    assert config["chat_template"] == (MODEL_PATH / "chat_template.jinja").read_text()


def test_the_template_renders_every_role(tokenizer: PreTrainedTokenizerFast) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    parts = [{"type": "text", "text": "Weather in "}, {"type": "text", "text": "Paris?"}]
    text = rendered(
        tokenizer,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "sunny"},
        ],
        tools=[WEATHER],
        add_generation_prompt=True,
    )
    assert text == (
        "<|begin_of_text|><|im_start|>system\nBe brief.\n\nTools:\n"
        + json.dumps(WEATHER["function"])
        + "<|im_end|>\n<|im_start|>user\nWeather in Paris?<|im_end|>\n"
        "<|im_start|>assistant\n<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Paris"}}\n'
        "</tool_call><|im_end|>\n<|im_start|>tool\nsunny<|im_end|>\n<|im_start|>assistant\n"
    )


def test_arguments_given_as_a_string_render_as_arguments_given_as_an_object(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    def chat(arguments: object) -> str:
        call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
        return rendered(tokenizer, [{"role": "assistant", "content": None, "tool_calls": [call, call]}])

    assert chat({"a": 1, "b": 2}) == chat('{"a": 1, "b": 2}')
