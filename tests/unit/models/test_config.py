"""What config.json may say, and how it is refused when it makes no sense."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tgi_shard.models.config import ModelConfig
from tgi_shard.models.errors import ConfigError, UnknownModelError
from tgi_shard.models.registry import read_model_config
from unit.models.reference import random_model

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "vocab_size": 97,
}


def read(**settings: Any) -> ModelConfig:
    return read_model_config({**LLAMA, **settings})


def test_a_minimal_config_has_the_usual_defaults() -> None:
    config = read()
    assert (config.num_kv_heads, config.head_dim, config.hidden_act) == (4, 8, "silu")
    assert config.windows == (None, None)
    assert config.torch_dtype is None
    assert config.eos_token_ids == ()
    assert not config.tie_word_embeddings


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_what_transformers_saves_can_be_read(family: str, tmp_path: Path) -> None:
    random_model(family, torch.bfloat16, tie_word_embeddings=True).save_pretrained(tmp_path)
    config = read_model_config(json.loads((tmp_path / "config.json").read_text()))
    assert config.model_type == family
    assert (config.num_layers, config.num_heads, config.num_kv_heads) == (2, 4, 2)
    assert config.torch_dtype is torch.bfloat16
    assert config.tie_word_embeddings


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("name", ["bfloat16", "torch.bfloat16"])
def test_both_names_of_the_dtype_are_read(key: str, name: str) -> None:
    assert read(**{key: name}).torch_dtype is torch.bfloat16


def test_a_dtype_that_cannot_be_served_in_counts_as_none() -> None:
    assert read(torch_dtype="float8_e4m3fn").torch_dtype is None


@pytest.mark.parametrize(("eos", "expected"), [(None, ()), (2, (2,)), ([2, 7], (2, 7))])
def test_one_or_several_eos_ids_are_read(eos: Any, expected: tuple[int, ...]) -> None:
    assert read(eos_token_id=eos).eos_token_ids == expected


@pytest.mark.parametrize(
    ("settings", "windows"),
    [
        ({"use_sliding_window": False, "sliding_window": 8}, (None, None, None)),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, (None, 8, 8)),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, (8, 8, 8)),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 28}, (None, None, None)),
        ({"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, (None, None, None)),
        (
            {
                "use_sliding_window": True,
                "sliding_window": 8,
                "max_window_layers": 0,
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            },
            (None, 8, None),
        ),
    ],
)
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_the_layers_of_a_qwen_that_slide(
    family: str, settings: dict[str, Any], windows: tuple[int, ...]
) -> None:
    assert read(model_type=family, num_hidden_layers=3, **settings).windows == windows


@pytest.mark.parametrize(
    "missing", ["hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings"]
)
def test_a_missing_size_is_named(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"config.json lacks '{missing}'"):
        read(**{missing: None})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": "32"}, "'hidden_size' must be a whole number of at least 1, found '32'"),
        ({"num_hidden_layers": 0}, "'num_hidden_layers' must be a whole number of at least 1, found 0"),
        ({"vocab_size": True}, "'vocab_size' must be a whole number"),
        ({"attention_bias": 1}, "'attention_bias' must be true or false, found 1"),
        ({"hidden_act": "snake"}, "hidden_act 'snake' is not one of silu, "),
        ({"num_attention_heads": 5}, "lacks 'head_dim', and hidden_size 32 is no multiple"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3 does not divide num_attention_heads 4"),
        ({"eos_token_id": "</s>"}, "'eos_token_id' must be a token id or a list of them"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized .gptq., which is not supported"),
        (
            {"model_type": "qwen2", "layer_types": ["full_attention"]},
            "layer_types has 1 entries for 2 layers",
        ),
        ({"model_type": "qwen2", "layer_types": ["chunked", "chunked"]}, "layer_types names 'chunked'"),
        ({"model_type": "qwen2", "layer_types": ["sliding_attention"] * 2}, "no sliding_window is in use"),
        ({"num_hidden_layers": 10**15}, "num_hidden_layers is 1000000000000000; at most 10000"),
        ({"rms_norm_eps": math.nan}, "'rms_norm_eps' must be a finite number, found nan"),
        ({"rms_norm_eps": 10**400}, "'rms_norm_eps' must be a finite number"),
        ({"rope_theta": math.inf}, "'rope_theta' must be a finite number, found inf"),
        ({"model_type": "qwen2", "layer_types": "full"}, "'layer_types' must be a list of strings"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(**settings)


@pytest.mark.parametrize("model_type", ["bert", None, 7])
def test_an_unknown_model_type_is_answered_with_the_known_ones(model_type: Any) -> None:
    with pytest.raises(UnknownModelError, match="must name one of llama, mistral, qwen2, qwen3") as error:
        read(model_type=model_type)
    assert repr(model_type) in str(error.value)


@pytest.mark.parametrize(
    ("settings", "shards", "message"),
    [
        ({"num_attention_heads": 4}, 3, "num_attention_heads is 4, which 3 shards do not divide"),
        ({"num_attention_heads": 4, "intermediate_size": 42}, 4, "intermediate_size is 42"),
        ({"num_attention_heads": 12, "num_key_value_heads": 6, "head_dim": 8}, 4, "6 key-value heads cannot"),
    ],
)
def test_a_number_of_shards_that_does_not_fit_is_refused(
    settings: dict[str, Any], shards: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(**settings).check_world_size(shards)


@pytest.mark.parametrize(
    ("kv_heads", "shards", "per_rank"), [(4, 1, 4), (4, 2, 2), (4, 4, 1), (2, 4, 1), (1, 4, 1)]
)
def test_key_value_heads_are_split_or_shared_by_ranks(kv_heads: int, shards: int, per_rank: int) -> None:
    assert read(num_key_value_heads=kv_heads).kv_heads_per_rank(shards) == per_rank
