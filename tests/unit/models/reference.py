"""Small random transformers models, what they compute, and our models with their weights."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tgi_shard.distributed import Collective
from tgi_shard.models.causal_lm import CausalLM
from unit.models.serving import VOCAB_SIZE, load

FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def random_model(family: str, dtype: torch.dtype = torch.float32, **settings: Any) -> PreTrainedModel:
    """A model whose parameters all matter: biases are not zero, norms not one, logits not flat."""
    config_class, model_class = FAMILIES[family]
    # The explicit mask is what `transformers` computes for every window and length; its shortcuts vary.
    config = config_class(**{**SIZES, **settings}, attn_implementation="eager")
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.copy_(1 + 0.2 * noise)
            else:
                parameter.copy_(noise * (0.3 if parameter.dim() == 1 else 1.5 * parameter.shape[1] ** -0.5))
    return model.to(dtype)


def config_json(model: PreTrainedModel) -> dict[str, Any]:
    return model.config.to_dict()


def checkpoint(model: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors that would be saved: a tied head is not among them."""
    tensors = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    return tensors


def load_ours(
    model: PreTrainedModel,
    *,
    config: dict[str, Any] | None = None,
    tensors: dict[str, Tensor] | None = None,
    max_length: int = SIZES["max_position_embeddings"],
    collective: Collective | None = None,
) -> CausalLM:
    """Our model with the weights of theirs, or with other tensors or another config."""
    config, tensors = config or config_json(model), tensors or checkpoint(model)
    return load(config, tensors, model.dtype, max_length=max_length, collective=collective)


@torch.inference_mode()
def reference_logits(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    """What transformers computes for a text: [tokens, vocabulary]."""
    return model(torch.tensor([tokens]), use_cache=False).logits[0]


def reference_greedy(model: PreTrainedModel, prompt: list[int], new_tokens: int) -> list[int]:
    """Greedy continuation, each token from a fresh pass over the whole text."""
    text = list(prompt)
    for _ in range(new_tokens):
        text.append(int(reference_logits(model, text)[-1].argmax()))
    return text[len(prompt) :]
