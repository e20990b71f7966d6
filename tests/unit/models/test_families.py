"""Every family gives what transformers gives: alone or together, whole or in pieces, from a shared prefix."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from unit.models.reference import load_ours, random_model, reference_greedy, reference_logits
from unit.models.serving import Server, random_text

WINDOW = 12
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-one-kv-head": ("llama", {"num_key_value_heads": 1}),
    "llama-no-grouping": ("llama", {"num_key_value_heads": 4}),
    "llama-all-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": ("llama", {"head_dim": 24}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-gelu": ("llama", {"hidden_act": "gelu_pytorch_tanh"}),
    "mistral-full": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": WINDOW}),
    "mistral-window-longer-than-text": ("mistral", {"sliding_window": 100}),
    "mistral-wide-heads": ("mistral", {"sliding_window": None, "head_dim": 24}),
    "qwen2": ("qwen2", {}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-upper-layers-slide": (
        "qwen2",
        {
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
        },
    ),
    "qwen2-window-switched-off": ("qwen2", {"use_sliding_window": False, "sliding_window": WINDOW}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3-biases-and-tied": ("qwen3", {"head_dim": 16, "attention_bias": True, "tie_word_embeddings": True}),
    "qwen3-every-other-layer-slides": (
        "qwen3",
        {
            "head_dim": 16,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}
PROMPTS = [random_text(length, seed=length) for length in (21, 1, 40, 2, 17)]


@pytest.fixture(params=list(VARIANTS), scope="module")
def variant(request: pytest.FixtureRequest) -> PreTrainedModel:
    family, settings = VARIANTS[request.param]
    return random_model(family, **settings)


def assert_same_logits(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_logits_of_prompts_of_mixed_lengths_are_those_of_transformers(variant: PreTrainedModel) -> None:
    server = Server(load_ours(variant))
    logits = server.step([(server.open(len(prompt)), prompt) for prompt in PROMPTS])
    for rows, prompt in zip(logits, PROMPTS, strict=True):
        assert_same_logits(rows, reference_logits(variant, prompt))


def test_greedy_texts_of_a_batch_are_those_of_transformers_alone(variant: PreTrainedModel) -> None:
    texts = Server(load_ours(variant)).greedy(PROMPTS, new_tokens=6)
    assert texts == [reference_greedy(variant, prompt, 6) for prompt in PROMPTS]


def test_a_prompt_in_chunks_beside_decoding_sequences_has_the_same_logits(variant: PreTrainedModel) -> None:
    server = Server(load_ours(variant))
    long, short = random_text(50, seed=1), random_text(30, seed=2)
    chunked, decoding = server.open(50), server.open(30)
    parts = []
    server.step([(decoding, short[:20])])
    decoded = []
    for start, stop, token in ((0, 7, 20), (7, 8, 21), (8, 33, 22), (33, 50, 23)):
        part, row = server.step([(chunked, long[start:stop]), (decoding, short[token : token + 1])])
        parts.append(part)
        decoded.append(row)
    assert_same_logits(torch.cat(parts), reference_logits(variant, long))
    assert_same_logits(torch.cat(decoded), reference_logits(variant, short)[20:24])


def test_a_prefix_in_shared_blocks_is_read_and_not_computed_again(variant: PreTrainedModel) -> None:
    server = Server(load_ours(variant))
    prefix = random_text(32, seed=3)
    first, second = prefix + random_text(9, seed=4), prefix + random_text(5, seed=5)
    owner = server.open(len(first))
    server.step([(owner, first)])
    follower = server.open(len(second), shared=owner.blocks[:2])
    rows, _ = server.step([(follower, second[32:]), (server.open(3), random_text(3))])
    assert_same_logits(rows, reference_logits(variant, second)[32:])


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_bfloat16_logits_are_near_those_of_transformers(family: str) -> None:
    model = random_model(family, torch.bfloat16)
    server = Server(load_ours(model))
    rows = server.step([(server.open(len(prompt)), prompt) for prompt in PROMPTS])
    theirs = torch.cat([reference_logits(model, prompt) for prompt in PROMPTS])
    exact = torch.cat(
        [reference_logits(random_model(family).bfloat16().float(), prompt) for prompt in PROMPTS]
    )
    ours_error = (torch.cat(rows).float() - exact).abs().mean()
    their_error = (theirs.float() - exact).abs().mean()
    assert ours_error < 1.25 * their_error


def test_llama_ignores_a_sliding_window_that_its_config_mentions() -> None:
    model = random_model("llama")
    plain = load_ours(model)
    assert load_ours(model, config={**model.config.to_dict(), "sliding_window": 4}).config == plain.config
