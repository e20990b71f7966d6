"""Makes checkpoints with random weights: speed depends on a model's shape, not on what it has learned."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tqdm.auto import tqdm

from benchmarks.shapes import Shape
from benchmarks.vocabulary import BEGIN_OF_TEXT, END_OF_TEXT, SPECIAL_TOKENS, make_tokenizer

_STANDARD_DEVIATION = 0.02
"""Llama's `initializer_range`: activations stay in the range that they have in a trained model."""


def ensure_checkpoint(shape: Shape, folder: Path) -> Path:
    """Answer `folder`, after making the checkpoint there unless it already holds one of this shape.

    Raises:
        FileExistsError: the folder holds something else, which is left alone.
    """
    if _holds(shape, folder):
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} exists and is no {shape.name} checkpoint: name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder that appears under its name is complete: an interrupted run leaves none behind.
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        _write(shape, unfinished)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _holds(shape: Shape, folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "config.json").read_bytes()) == _config(shape))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _write(shape: Shape, folder: Path) -> None:
    make_tokenizer(shape.vocabulary_size).save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(shape))
    _write_json(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 1, "do_sample": False})
    _write_json(folder / "config.json", _config(shape))
    save_file(_random_tensors(shape), folder / "model.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.head_size,
        "vocab_size": shape.vocabulary_size,
        "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": _STANDARD_DEVIATION,
        "tie_word_embeddings": True,
        "bos_token_id": SPECIAL_TOKENS.index(BEGIN_OF_TEXT),
        "eos_token_id": SPECIAL_TOKENS.index(END_OF_TEXT),
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def _tokenizer_config(shape: Shape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "model_max_length": shape.max_positions,
        "clean_up_tokenization_spaces": False,
    }


def _random_tensors(shape: Shape) -> dict[str, torch.Tensor]:
    """Draw the weights, always the same for a shape: normal projections, unit norms."""
    generator = torch.Generator().manual_seed(0)
    sizes = dict(_tensor_sizes(shape))
    tensors = {}
    with tqdm(
        total=sum(map(math.prod, sizes.values())), desc=shape.name, unit=" weights", unit_scale=True
    ) as bar:
        for name, size in sizes.items():
            if len(size) == 1:
                tensors[name] = torch.ones(size, dtype=torch.bfloat16)
            else:
                empty = torch.empty(size, dtype=torch.bfloat16)
                tensors[name] = empty.normal_(0.0, _STANDARD_DEVIATION, generator=generator)
            bar.update(math.prod(size))
    return tensors


def _tensor_sizes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and size of every tensor, as `LlamaForCausalLM` spells them; the head is the embedding."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    query, key_value = shape.heads * shape.head_size, shape.key_value_heads * shape.head_size
    yield "model.embed_tokens.weight", (shape.vocabulary_size, hidden)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.self_attn.q_proj.weight", (query, hidden)
        yield f"{prefix}.self_attn.k_proj.weight", (key_value, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", (key_value, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, query)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        yield f"{prefix}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
