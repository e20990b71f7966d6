import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tgi_shard.weights import WeightsError, open_weights
from tgi_shard.weights.convert import convert_file, converted_name

Damage = Callable[[bytes], bytes]

EMBEDDING = torch.arange(12, dtype=torch.float32).reshape(4, 3)


def convert(folder: Path, state: object, **options: object) -> Path:
    source, target = folder / "pytorch_model.bin", folder / "model.safetensors"
    torch.save(state, source, **options)
    convert_file(source, target)
    return target


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pytorch_model.bin", "model.safetensors"),
        ("pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors"),
        ("consolidated.00.pt", "consolidated.00.safetensors"),
        ("model.bin", "model.safetensors"),
        ("torch_model.pt", "torch_model.safetensors"),
    ],
)
def test_only_the_prefix_pytorch_is_taken_off_a_name(name: str, expected: str) -> None:
    assert converted_name(name) == expected


def test_tensors_keep_values_types_and_names(tmp_path: Path) -> None:
    state = {
        "a": EMBEDDING.to(torch.bfloat16),
        "b": torch.tensor([float("nan"), float("inf")]),
        "c": torch.tensor(3),
        "empty": torch.empty(0, 4),
        "also_empty": torch.empty(0, 4),
    }
    written = load_file(convert(tmp_path, state))
    assert written.keys() == state.keys()
    for name, tensor in state.items():
        assert written[name].dtype == tensor.dtype
        assert torch.equal(written[name].nan_to_num(7), tensor.nan_to_num(7))


def test_tied_tensors_are_stored_once_and_found_by_both_names(tmp_path: Path) -> None:
    target = convert(tmp_path, {"lm_head.weight": EMBEDDING, "model.embed_tokens.weight": EMBEDDING})
    with safe_open(target, framework="pt") as file:
        assert list(file.keys()) == ["model.embed_tokens.weight"]
        assert file.metadata() == {"format": "pt", "lm_head.weight": "model.embed_tokens.weight"}
    weights = open_weights(tmp_path, "cpu", torch.float32)
    assert torch.equal(weights.get("lm_head.weight"), EMBEDDING)


def test_different_views_of_one_storage_are_stored_apart(tmp_path: Path) -> None:
    state = {"first": EMBEDDING[:2], "second": EMBEDDING[1:], "turned": EMBEDDING.T}
    written = load_file(convert(tmp_path, state))
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


def test_a_nested_state_dict_is_unpacked(tmp_path: Path) -> None:
    assert load_file(convert(tmp_path, {"state_dict": {"a": EMBEDDING}})).keys() == {"a"}


def test_files_from_before_torch_1_6_are_read(tmp_path: Path) -> None:
    target = convert(tmp_path, {"a": EMBEDDING}, _use_new_zipfile_serialization=False)
    assert torch.equal(load_file(target)["a"], EMBEDDING)


class RunsCode:
    """Unpickling this calls a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_bytes_that_are_no_pickle_are_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"garbage")
    with pytest.raises(WeightsError, match=r"model\.bin cannot be read: it is no PyTorch checkpoint"):
        convert_file(tmp_path / "pytorch_model.bin", tmp_path / "model.safetensors")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"is refused: loading it would run code \(.*system\)"):
        convert(tmp_path, {"a": RunsCode()})
    assert {path.name for path in tmp_path.iterdir()} == {"pytorch_model.bin"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([EMBEDDING], "does not hold tensors by name, but a list"),
        ({"a": 1}, "does not hold tensors by name: 'a' is a int"),
        ({1: EMBEDDING}, "does not hold tensors by name: 1 is a Tensor"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason):
        convert(tmp_path, content)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 99]
)
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, damage: Damage) -> None:
    source = tmp_path / "pytorch_model.bin"
    torch.save({"a": EMBEDDING}, source)
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin") as raised:
        convert_file(source, tmp_path / "model.safetensors")
    assert "\n" not in str(raised.value)


def test_a_plain_pickle_is_not_loaded(tmp_path: Path) -> None:
    source = tmp_path / "pytorch_model.bin"
    source.write_bytes(pickle.dumps({"a": RunsCode()}, protocol=2))
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin"):
        convert_file(source, tmp_path / "model.safetensors")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tgi_shard.weights.convert.save_file", fill_the_disk)
    with pytest.raises(WeightsError, match="cannot be written: No space left on device"):
        convert(tmp_path, {"a": EMBEDDING})
    assert {path.name for path in tmp_path.iterdir()} == {"pytorch_model.bin"}


def test_a_wrong_copy_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    def write_wrongly(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        save_file({name: tensor + 1 for name, tensor in tensors.items()}, path, metadata)

    monkeypatch.setattr("tgi_shard.weights.convert.save_file", write_wrongly)
    with pytest.raises(WeightsError, match="tensor a was not written correctly"):
        convert(tmp_path, {"a": EMBEDDING})
    assert not (tmp_path / "model.safetensors").exists()
