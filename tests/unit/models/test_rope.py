"""Rotary embeddings equal transformers' for each scaling and spelling, and consistent beyond its lengths."""

from typing import Any

import pytest
import torch

from tgi_shard.layers.rope import DynamicScaling, RotaryEmbedding
from tgi_shard.models.config_reader import ConfigReader
from tgi_shard.models.errors import ConfigError
from tgi_shard.models.registry import read_model_config
from tgi_shard.models.rope_config import read_rope
from unit.models.reference import load_ours, random_model, reference_greedy, reference_logits
from unit.models.serving import Server, random_text

TRAINED = 32
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": TRAINED,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED},
    "yarn-tuned": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": TRAINED,
        "beta_fast": 8.0,
        "beta_slow": 2.0,
        "truncate": False,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
    },
    "yarn-amplitude-given": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": TRAINED,
        "attention_factor": 1.5,
    },
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
}
THETA = 500.0
TEXT = random_text(100, seed=9)


def random_llama(scaling: str) -> Any:
    return random_model("llama", rope_parameters={**SCALINGS[scaling], "rope_theta": THETA}, head_dim=16)


def old_spelling(config: dict[str, Any]) -> dict[str, Any]:
    """As transformers wrote it before version 5, with the older key for the kind of scaling."""
    rope = dict(config["rope_parameters"])
    theta = rope.pop("rope_theta")
    rope["type"] = rope.pop("rope_type")
    scaling = None if rope["type"] == "default" else rope
    return {**config, "rope_parameters": None, "rope_theta": theta, "rope_scaling": scaling}


@pytest.mark.parametrize("scaling", SCALINGS)
def test_logits_are_those_of_transformers(scaling: str) -> None:
    model = random_llama(scaling)
    server = Server(load_ours(model))
    (rows,) = server.step([(server.open(100), TEXT)])
    torch.testing.assert_close(rows, reference_logits(model, TEXT), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_old_spelling_means_the_same(scaling: str) -> None:
    config = random_llama(scaling).config.to_dict()
    assert read_model_config(old_spelling(config)).rope == read_model_config(config).rope


def test_each_scaling_changes_the_logits() -> None:
    """Guards the tests above: a scaling that did nothing would not be noticed if its effect were small."""
    weights = random_llama("default")
    plain = reference_logits(weights, TEXT)
    for scaling in SCALINGS.keys() - {"default", "dynamic"}:
        assert (reference_logits(random_llama(scaling), TEXT) - plain).abs().max() > 0.1


def test_dynamic_scaling_beyond_the_trained_length_has_the_base_of_transformers_at_the_served_length() -> (
    None
):
    model = random_model(
        "llama", rope_parameters={**SCALINGS["dynamic"], "rope_theta": THETA}, max_position_embeddings=TRAINED
    )
    server = Server(load_ours(model, max_length=len(TEXT)))
    (rows,) = server.step([(server.open(100), TEXT)])
    torch.testing.assert_close(rows, reference_logits(model, TEXT), atol=1e-4, rtol=1e-4)


def test_dynamic_scaling_gives_a_text_the_same_logits_however_it_grew() -> None:
    model = random_model(
        "llama", rope_parameters={**SCALINGS["dynamic"], "rope_theta": THETA}, max_position_embeddings=TRAINED
    )
    server = Server(load_ours(model, max_length=100))
    whole, grown = server.open(60), server.open(60)
    (expected,) = server.step([(whole, TEXT[:60])])
    parts = [server.step([(grown, TEXT[i : i + 4])])[0] for i in range(0, 60, 4)]
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-4, rtol=1e-4)


def test_dynamic_scaling_within_the_trained_length_is_plain_rope() -> None:
    scaling = DynamicScaling(factor=4.0, trained_length=128)
    plain = scaling.frequencies(THETA, 16, max_length=1)
    assert torch.equal(scaling.frequencies(THETA, 16, max_length=128), plain)
    assert not torch.equal(scaling.frequencies(THETA, 16, max_length=129), plain)


def test_a_partial_rotary_factor_leaves_the_other_dimensions_alone() -> None:
    config = read_rope(ConfigReader({"partial_rotary_factor": 0.5}), 16, 128)
    heads = torch.randn(3, 2, 16)
    rotation = RotaryEmbedding(config, 128, torch.device("cpu"))(torch.arange(3), torch.float32)
    turned = rotation.apply(heads)
    assert torch.equal(turned[..., 8:], heads[..., 8:])
    assert torch.equal(turned[0], heads[0])
    assert not torch.isclose(turned[1:, :, :8], heads[1:, :, :8]).all()
    torch.testing.assert_close(turned.norm(dim=-1), heads.norm(dim=-1))


def test_positions_far_out_are_turned_as_transformers_does() -> None:
    model = random_llama("yarn")
    ours = RotaryEmbedding(read_model_config(model.config.to_dict()).rope, 128, torch.device("cpu"))
    positions = torch.tensor([0, 1, 31, 32, 4095, 131071])
    rotation = ours(positions, torch.float32)
    cos, sin = model.model.rotary_emb(torch.zeros(1), positions[None])
    torch.testing.assert_close(rotation.cos[:, 0], cos[0], atol=0, rtol=0)
    torch.testing.assert_close(rotation.sin[:, 0].abs(), sin[0].abs(), atol=0, rtol=0)


def test_greedy_text_crosses_the_trained_length_as_in_transformers() -> None:
    model = random_llama("yarn")
    prompt = TEXT[: TRAINED - 2]
    assert Server(load_ours(model)).greedy([prompt], 5) == [reference_greedy(model, prompt, 5)]


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        (
            {"rope_scaling": {"type": "cubic", "factor": 2.0}},
            "rope type 'cubic' is not one of default, linear",
        ),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling lacks 'factor'"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "'factor' must be a finite number, found '2'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 0.5}}, "must be at least 1, found 0.5"),
        ({"rope_scaling": ["linear"]}, "'rope_scaling' must be an object"),
        ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, "lacks 'low_freq_factor'"),
        (
            {"rope_scaling": {"type": "llama3", "factor": 8.0, "low_freq_factor": 4, "high_freq_factor": 1}},
            "high_freq_factor 1.0 must be greater than low_freq_factor 4.0",
        ),
        ({"rope_theta": 0}, "theta 0.0"),
        ({"partial_rotary_factor": 0.2}, "3 of 16 dimensions"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "rope settings that differ between layers",
        ),
    ],
)
def test_a_rope_setting_that_makes_no_sense_is_named(rope: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_rope(ConfigReader(rope), 16, 128)
