"""A model spread over two processes computes what one process computes."""

import json
from typing import Any

import pytest
import torch
import torch.multiprocessing as multiprocessing

from unit.models.ranks import compute, run_rank
from unit.models.reference import checkpoint, load_ours, random_model
from unit.models.serving import Server

VARIANTS: dict[str, tuple[str, dict[str, Any], torch.dtype]] = {
    "llama": ("llama", {"attention_bias": True, "mlp_bias": True}, torch.float32),
    "tied": ("llama", {"tie_word_embeddings": True}, torch.float32),
    "fewer-kv-heads-than-ranks": ("mistral", {"num_key_value_heads": 1, "sliding_window": 12}, torch.float32),
    "qwen2": ("qwen2", {}, torch.float32),
    "qwen3": ("qwen3", {"head_dim": 16}, torch.float32),
    "bfloat16": ("llama", {}, torch.bfloat16),
}


@pytest.fixture(scope="module")
def both_ranks(tmp_path_factory: pytest.TempPathFactory, free_port: int) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    checkpoints = {}
    for name, (family, settings, dtype) in VARIANTS.items():
        model = random_model(family, dtype, **settings)
        checkpoints[name] = (json.loads(model.config.to_json_string()), checkpoint(model), dtype)
    torch.save(checkpoints, folder / "checkpoints.pt")
    multiprocessing.spawn(run_rank, (free_port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_ranks_give_the_logits_and_texts_of_one(variant: str, both_ranks: list[dict[str, Any]]) -> None:
    family, settings, dtype = VARIANTS[variant]
    logits, texts = compute(Server(load_ours(random_model(family, dtype, **settings))))
    tolerance = 1e-4 if dtype is torch.float32 else 0.3
    for results in both_ranks:
        torch.testing.assert_close(results[variant][0], logits, atol=tolerance, rtol=1e-4)
        if dtype is torch.float32:
            assert results[variant][1] == texts


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_ranks_have_the_same_bits(variant: str, both_ranks: list[dict[str, Any]]) -> None:
    first, second = (results[variant] for results in both_ranks)
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1]
