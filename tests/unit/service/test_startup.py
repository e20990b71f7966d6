"""What a model's small files decide before it is served: where it ends, and how long it may get."""

from pathlib import Path

import pytest

from support.tiny_llama import make_tiny_llama
from tgi_common.model_files import ModelFilesError, read_config
from tgi_shard.models.registry import read_model_config
from tgi_shard.startup import LengthError, find_eos_ids, served_length
from tgi_shard.text.tokenizer import ShardTokenizer, load_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_llama(tmp_path)


def tokenizer_of(folder: Path) -> ShardTokenizer:
    return load_tokenizer(folder, trust_remote_code=False)


def eos_ids(folder: Path) -> frozenset[int]:
    return find_eos_ids(folder, read_model_config(read_config(folder)), tokenizer_of(folder))


def test_the_generation_config_adds_ends_to_the_tokenizers(folder: Path) -> None:
    own = tokenizer_of(folder).eos_token_id
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert eos_ids(folder) == {7, 9, own} - {None}
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert eos_ids(folder) == {7, own} - {None}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("nope", "generation_config.json is not valid JSON"),
        ("[]", "generation_config.json must hold a JSON object, not list"),
        ('{"eos_token_id": "x"}', "generation_config.json: 'eos_token_id' must be a token id or a list"),
        ('{"eos_token_id": 1.5}', "generation_config.json: 'eos_token_id' must be a token id or a list"),
    ],
)
def test_a_generation_config_that_makes_no_sense_is_named(folder: Path, content: str, told: str) -> None:
    (folder / "generation_config.json").write_text(content)
    with pytest.raises((ModelFilesError, ValueError), match=told):
        eos_ids(folder)


def test_a_model_without_room_for_an_answer_is_refused(folder: Path) -> None:
    config = read_config(folder) | {"max_position_embeddings": 1}
    with pytest.raises(LengthError, match="declares a longest text of 1 token; at least 2"):
        served_length(read_model_config(config), tokenizer_of(folder), None)


@pytest.mark.parametrize(
    ("rope", "reach"),
    [
        (None, 512),
        ({"rope_type": "linear", "factor": 2.0}, 1024),
        ({"rope_type": "dynamic", "factor": 4.0}, 2048),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}, 1024),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128}, 512),
    ],
)
def test_longer_texts_are_served_as_far_as_the_rope_scaling_reaches(
    folder: Path, rope: dict[str, object] | None, reach: int
) -> None:
    config = read_model_config(read_config(folder) | {"rope_scaling": rope})
    tokenizer = tokenizer_of(folder)
    assert served_length(config, tokenizer, None) == 512
    assert served_length(config, tokenizer, reach) == reach
    with pytest.raises(LengthError, match=f"the model reaches {reach} tokens"):
        served_length(config, tokenizer, reach + 1)
