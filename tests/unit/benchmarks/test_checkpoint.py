"""Random checkpoints: the right shape, a tokenizer that fits, nothing half-made."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.checkpoint import ensure_checkpoint
from benchmarks.shapes import SHAPES, Shape

TINY = Shape("tiny", 2, 48, 6, 2, 96, 8100, 10_000.0, max_positions=128)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_checkpoint(TINY, tmp_path_factory.mktemp("checkpoints") / "tiny")


def test_transformers_loads_every_weight_and_generates(tiny: Path) -> None:
    model, report = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    prompt = tokenizer("baba tulo", return_tensors="pt")
    assert prompt["input_ids"].shape == (1, 2)
    assert model.generate(**prompt, max_new_tokens=3, min_new_tokens=3).shape == (1, 5)


def test_weights_are_bfloat16_normal_and_always_the_same(tiny: Path, tmp_path: Path) -> None:
    again = ensure_checkpoint(TINY, tmp_path / "again")
    name = "model.safetensors"
    assert (again / name).read_bytes() == (tiny / name).read_bytes()
    weight = AutoModelForCausalLM.from_pretrained(tiny, dtype="auto").model.layers[1].mlp.up_proj.weight
    assert weight.dtype == torch.bfloat16
    assert weight.detach().float().std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("name", "parameters"),
    # What transformers counts for SmolLM2-135M and Llama-3.2-1B.
    [("135M", 134_515_008), ("1B", 1_235_814_400)],
)
def test_named_shapes_have_the_size_of_their_models(name: str, parameters: int) -> None:
    shape = SHAPES[name]
    hidden, inner, key_value = (
        shape.hidden_size,
        shape.intermediate_size,
        shape.key_value_heads * shape.head_size,
    )
    layer = 2 * hidden * hidden + 2 * hidden * key_value + 3 * hidden * inner + 2 * hidden
    assert shape.vocabulary_size * hidden + shape.layers * layer + hidden == parameters


def test_a_checkpoint_that_exists_is_kept(tiny: Path) -> None:
    written = (tiny / "model.safetensors").stat()
    ensure_checkpoint(TINY, tiny)
    assert (tiny / "model.safetensors").stat() == written


def test_a_folder_with_something_else_is_left_alone(tiny: Path) -> None:
    with pytest.raises(FileExistsError, match="is no other checkpoint: name another folder"):
        ensure_checkpoint(dataclasses.replace(TINY, name="other", layers=3), tiny)
    assert json.loads((tiny / "config.json").read_text())["num_hidden_layers"] == 2


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("benchmarks.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        ensure_checkpoint(TINY, tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []
