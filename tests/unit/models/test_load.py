"""A checkpoint that does not fit its config is refused by name; one that fits is not stored twice."""

from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor
from transformers import PreTrainedModel

from tgi_shard.backend import torch_backend
from tgi_shard.distributed import Collective, World
from tgi_shard.models.errors import ConfigError
from tgi_shard.models.load import load_model
from tgi_shard.models.registry import read_model_config
from tgi_shard.platform import CpuPlatform
from tgi_shard.weights import WeightsError, open_weights
from unit.models.reference import checkpoint, config_json, load_ours, random_model
from unit.models.serving import Server, random_text


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return random_model("llama")


def without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    assert name in tensors
    return {other: tensor for other, tensor in tensors.items() if other != name}


def test_a_folder_that_transformers_saved_is_served(llama: PreTrainedModel, tmp_path: Path) -> None:
    llama.save_pretrained(tmp_path)
    platform = CpuPlatform()
    model = load_model(
        read_model_config(config_json(llama)),
        open_weights(tmp_path, platform.device, torch.float32),
        platform,
        Collective(),
        torch.float32,
        torch_backend(torch.float32),
        128,
    )
    text = random_text(20)
    servers = Server(model), Server(load_ours(llama))
    from_file, from_memory = (server.step([(server.open(20), text)])[0] for server in servers)
    assert torch.equal(from_file, from_memory)


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.input_layernorm.weight",
        "model.norm.weight",
        "lm_head.weight",
    ],
)
def test_a_missing_tensor_is_named(llama: PreTrainedModel, name: str) -> None:
    with pytest.raises(WeightsError, match=f"no tensor {name}"):
        load_ours(llama, tensors=without(checkpoint(llama), name))


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("model.embed_tokens.weight", [96, 32], [97, 32]),
        ("model.layers.1.self_attn.k_proj.weight", [15, 32], [16, 32]),
        ("model.layers.0.mlp.down_proj.weight", [31, 48], [32, 48]),
        ("model.norm.weight", [31], [32]),
    ],
)
def test_a_tensor_of_another_shape_is_named_with_both_shapes(
    llama: PreTrainedModel, name: str, found: list[int], expected: list[int]
) -> None:
    tensors = checkpoint(llama)
    tensors[name] = tensors[name][:-1]
    with pytest.raises(WeightsError) as error:
        load_ours(llama, tensors=tensors)
    assert str(error.value) == f"tensor {name} has shape {found}, but config.json asks for {expected}"


def test_a_size_that_no_memory_holds_is_refused_by_the_tensors_shape(llama: PreTrainedModel) -> None:
    with pytest.raises(WeightsError, match=r"config.json asks for \[1000000000000, \d+\]"):
        load_ours(llama, config=config_json(llama) | {"vocab_size": 10**12})


def test_whole_numbers_are_not_taken_for_weights(llama: PreTrainedModel) -> None:
    tensors = checkpoint(llama)
    name = "model.layers.0.mlp.down_proj.weight"
    with pytest.raises(WeightsError, match=f"{name} holds whole numbers .torch.int8., as in quantized"):
        load_ours(llama, tensors={**tensors, name: tensors[name].to(torch.int8)})


def test_a_bias_that_the_config_asks_for_must_be_there(llama: PreTrainedModel) -> None:
    with pytest.raises(WeightsError, match=r"no tensor model.layers.0.self_attn.q_proj.bias"):
        load_ours(llama, config={**config_json(llama), "attention_bias": True})


def test_tensors_that_the_config_does_not_ask_for_are_reported() -> None:
    biased = random_model("llama", attention_bias=True)
    with capture_logs() as logs:
        load_ours(biased, config={**config_json(biased), "attention_bias": False})
    (entry,) = logs
    assert entry["log_level"] == "warning"
    assert entry["count"] == 8
    assert "model.layers.0.self_attn.q_proj.bias" in entry["first"]


def test_tensors_that_nobody_needs_are_not_worth_a_word(llama: PreTrainedModel) -> None:
    tensors = {**checkpoint(llama), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    with capture_logs() as logs:
        load_ours(llama, tensors=tensors, config={**config_json(llama), "tie_word_embeddings": True})
    assert logs == []


def test_a_tied_head_is_the_embedding_itself() -> None:
    model = load_ours(random_model("llama", tie_word_embeddings=True))
    assert model.head.matrix is model.embedding.table


def test_a_head_that_the_config_says_is_tied_is_not_read_even_if_it_is_there(llama: PreTrainedModel) -> None:
    model = load_ours(llama, config={**config_json(llama), "tie_word_embeddings": True})
    assert torch.equal(model.head.matrix.weight, llama.model.embed_tokens.weight)


def test_the_model_keeps_nothing_of_the_checkpoint_alive(llama: PreTrainedModel) -> None:
    tensors = checkpoint(llama)
    theirs = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    ours = {
        parameter.untyped_storage().data_ptr() for parameter in load_ours(llama, tensors=tensors).parameters()
    }
    assert not theirs & ours


def test_no_parameter_wants_a_gradient_and_all_have_the_models_dtype() -> None:
    model = load_ours(random_model("qwen3", torch.bfloat16, head_dim=16))
    assert {(parameter.dtype, parameter.requires_grad) for parameter in model.parameters()} == {
        (torch.bfloat16, False)
    }


def test_a_number_of_ranks_that_does_not_fit_is_refused_before_weights_are_read(
    llama: PreTrainedModel,
) -> None:
    with pytest.raises(ConfigError, match="num_attention_heads is 4, which 3 shards do not divide"):
        load_ours(llama, collective=Collective(World(0, 3)), tensors={"none": torch.ones(1)})
