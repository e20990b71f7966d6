import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tgi_common.hub import ModelSource
from tgi_common.model_files import MissingWeightsError
from tgi_shard.weights import WeightsError, download, prepare_weights

TENSOR = torch.arange(6, dtype=torch.float32)


def prepare(model: Path, converted: Path | None = None) -> Path:
    return prepare_weights(ModelSource(str(model)), converted or model / "unused")


def save_parts(folder: Path, count: int = 2) -> None:
    for part in range(1, count + 1):
        torch.save({f"t{part}": TENSOR}, folder / f"pytorch_model-{part:05d}-of-{count:05d}.bin")


def test_safetensors_are_left_alone(tmp_path: Path) -> None:
    save_file({"a": TENSOR}, tmp_path / "model.safetensors")
    torch.save({"a": TENSOR}, tmp_path / "pytorch_model.bin")
    assert prepare(tmp_path) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "pytorch_model.bin"}


def test_torch_files_are_converted_beside_themselves(tmp_path: Path) -> None:
    save_parts(tmp_path)
    assert prepare(tmp_path) == tmp_path
    assert load_file(tmp_path / "model-00001-of-00002.safetensors").keys() == {"t1"}
    assert load_file(tmp_path / "model-00002-of-00002.safetensors").keys() == {"t2"}


def test_a_conversion_happens_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_parts(tmp_path)
    prepare(tmp_path)
    monkeypatch.setattr(download, "convert_file", lambda *_: pytest.fail("converted again"))
    assert prepare(tmp_path) == tmp_path


def test_a_conversion_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    save_parts(tmp_path)
    prepare(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    prepare(tmp_path)
    assert load_file(tmp_path / "model-00002-of-00002.safetensors").keys() == {"t2"}


def test_pt_files_are_converted_too(tmp_path: Path) -> None:
    torch.save({"a": TENSOR}, tmp_path / "model.pt")
    prepare(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == {"a"}


def test_the_torch_index_says_which_files_are_converted(tmp_path: Path) -> None:
    torch.save({"a": TENSOR}, tmp_path / "part.bin")
    torch.save({"a": TENSOR}, tmp_path / "other.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "part.bin"}}))
    prepare(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["part.safetensors"]


def test_a_folder_that_cannot_be_written_is_converted_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, converted = tmp_path / "model", tmp_path / "converted"
    model.mkdir()
    save_parts(model)
    # A folder's mode does not stop root, which tests may run as.
    monkeypatch.setattr(download.os, "access", lambda path, mode: path != model)
    folder = prepare(model, converted)
    assert folder.parent == converted
    assert {path.name for path in folder.iterdir()} == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    assert prepare(model, converted) == folder
    assert not list(model.glob("*.safetensors"))


def test_a_missing_part_of_a_safetensors_model_is_told(tmp_path: Path) -> None:
    save_file({"a": TENSOR}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(MissingWeightsError, match=r"model-00002-of-00002\.safetensors"):
        prepare(tmp_path)


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no weights: neither \*\.safetensors nor"):
        prepare(tmp_path)
