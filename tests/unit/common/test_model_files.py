import json
from pathlib import Path

import pytest

from tgi_common.model_files import (
    InvalidConfigError,
    MissingWeightsError,
    ModelFilesError,
    find_weight_files,
    read_config,
    select_config_names,
    select_weight_names,
)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def found(folder: Path, suffix: str = ".safetensors") -> list[str]:
    return [path.name for path in find_weight_files(folder, suffix)]


def test_config_files_are_the_small_ones_at_the_top() -> None:
    names = ["config.json", "merges.txt", "tokenizer.model", "model.safetensors", "x/config.json", "a.py"]
    assert select_config_names(names) == ["config.json", "merges.txt", "tokenizer.model"]


def test_named_chat_templates_belong_to_the_config_files() -> None:
    assert select_config_names(["additional_chat_templates/rag.jinja"]) == [
        "additional_chat_templates/rag.jinja"
    ]


def test_original_format_copies_and_adapters_are_left_out_beside_the_weights() -> None:
    names = ["model.safetensors", "consolidated.safetensors", "adapter_model.safetensors"]
    assert select_weight_names(names, ".safetensors") == ["model.safetensors"]


def test_a_consolidated_file_alone_is_the_model() -> None:
    assert select_weight_names(["consolidated.safetensors"], ".safetensors") == ["consolidated.safetensors"]


def test_what_a_training_run_leaves_is_no_weight_file() -> None:
    assert select_weight_names(["training_args.bin", "optimizer.bin", "a/b.bin"], ".bin") == []


def test_the_index_decides_which_files_count(tmp_path: Path) -> None:
    touch(tmp_path, "a.safetensors", "b.safetensors", "model.safetensors")
    index = {"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert found(tmp_path) == ["a.safetensors", "b.safetensors"]


def test_a_file_missing_from_the_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "a.safetensors"}}')
    with pytest.raises(MissingWeightsError, match=r"incomplete: it lacks a\.safetensors"):
        found(tmp_path)


def test_a_missing_numbered_part_is_named_without_an_index(tmp_path: Path) -> None:
    touch(tmp_path, "model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors")
    with pytest.raises(MissingWeightsError, match=r"lacks model-00002-of-00003\.safetensors$"):
        found(tmp_path)


@pytest.mark.parametrize("text", ["[]", '"x"', "{}", '{"weight_map": 3}', '{"weight_map": {"x": 1}}', "{"])
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelFilesError, match=r"model\.safetensors\.index\.json is not"):
        found(tmp_path)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../a.safetensors"}}')
    with pytest.raises(ModelFilesError, match="outside its folder"):
        found(tmp_path)


def test_a_config_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 8}')
    assert read_config(tmp_path)["hidden_size"] == 8


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "has no config.json"),
        ("{", "is not valid JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "does not say its model_type"),
        ('{"model_type": 3}', "does not say its model_type"),
        ("\xff", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
    ],
)
def test_a_bad_config_is_told_in_one_line(tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidConfigError, match=reason) as raised:
        read_config(tmp_path)
    assert "\n" not in str(raised.value)
