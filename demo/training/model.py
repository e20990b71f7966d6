"""The shape of the demo model, and how it is written to a folder that any server of Llama models can load."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.corpus import TURN_END
from training.tokenizer import MAX_POSITIONS, VOCABULARY

ROPE_THETA = 10000.0
CONFIG_FIELDS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "attention_bias",
    "mlp_bias",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
# Spelled as every version of transformers reads it.
CONFIG_FIXED = {"architectures": ["LlamaForCausalLM"], "rope_theta": ROPE_THETA, "torch_dtype": "bfloat16"}


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model of 2.2 million parameters, whose heads and widths two shards can share."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        rope_theta=ROPE_THETA,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes weights (bf16) and both configs. Tied embeddings are stored once."""
    weights = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    known = model.config.to_dict()
    write_json(folder / "config.json", {name: known[name] for name in CONFIG_FIELDS} | CONFIG_FIXED)
    # A turn ends a chat's answer, the end of text a plain one: servers must heed both.
    ends = [tokenizer.convert_tokens_to_ids(TURN_END), tokenizer.pad_token_id]
    generation = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends,
        "pad_token_id": tokenizer.pad_token_id,
    }
    write_json(folder / "generation_config.json", generation)
    (folder / "model.safetensors").chmod(0o644)


def write_json(path: Path, value: dict[str, object]) -> None:
    """JSON as people read it."""
    path.write_text(json.dumps(value, indent=2) + "\n")
