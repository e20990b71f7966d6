import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tgi_common.model_files import MissingWeightsError
from tgi_shard.weights import SafetensorsWeights, WeightsError, open_weights

Damage = Callable[[bytes], bytes]

MATRIX = torch.arange(24, dtype=torch.float32).reshape(4, 6)


def write(folder: Path, name: str = "model.safetensors", **tensors: torch.Tensor) -> Path:
    save_file(tensors, folder / name)
    return folder


def opened(folder: Path, dtype: torch.dtype = torch.float32) -> SafetensorsWeights:
    return open_weights(folder, "cpu", dtype)


def test_tensors_are_found_by_name_over_all_files(tmp_path: Path) -> None:
    write(tmp_path, "model-00001-of-00002.safetensors", a=MATRIX)
    write(tmp_path, "model-00002-of-00002.safetensors", b=MATRIX + 1)
    weights = opened(tmp_path)
    assert set(weights.names()) == {"a", "b"}
    assert "a" in weights
    assert "c" not in weights
    assert weights.shape("b") == (4, 6)
    assert torch.equal(weights.get("b"), MATRIX + 1)


@pytest.mark.parametrize("stored", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_floating_tensors_become_the_models_type(tmp_path: Path, stored: torch.dtype) -> None:
    weights = opened(write(tmp_path, a=MATRIX.to(stored)), torch.bfloat16)
    assert torch.equal(weights.get("a"), MATRIX.to(torch.bfloat16))
    assert weights.get_shard("a", 1, 0, 2).dtype == torch.bfloat16


def test_integers_keep_their_type(tmp_path: Path) -> None:
    weights = opened(write(tmp_path, a=torch.tensor([1, 2])), torch.bfloat16)
    assert weights.get("a").dtype == torch.int64


def test_narrow_floats_are_refused_since_they_need_scales(tmp_path: Path) -> None:
    weights = opened(write(tmp_path, a=MATRIX.to(torch.float8_e4m3fn)))
    with pytest.raises(WeightsError, match=r"tensor a in .* has type F8_E4M3"):
        weights.get("a")


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_shard_is_the_slice_of_the_whole(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    tensor = torch.randn(shape)
    dim = data.draw(st.integers(0, len(shape) - 1))
    start = data.draw(st.integers(0, shape[dim]))
    stop = data.draw(st.integers(start, shape[dim]))
    folder = tmp_path_factory.mktemp("weights")
    shard = opened(write(folder, a=tensor)).get_shard("a", dim, start, stop)
    assert shard.is_contiguous()
    assert torch.equal(shard, tensor.narrow(dim, start, stop - start))


@pytest.mark.parametrize(("dim", "start", "stop"), [(0, 0, 5), (2, 0, 1), (1, 3, 2), (0, -1, 2), (-1, 0, 1)])
def test_a_slice_outside_the_tensor_is_refused(tmp_path: Path, dim: int, start: int, stop: int) -> None:
    with pytest.raises(WeightsError, match=r"tensor a has shape \[4, 6\]"):
        opened(write(tmp_path, a=MATRIX)).get_shard("a", dim, start, stop)


def test_uncast_tensors_are_views_into_the_mapped_file(tmp_path: Path) -> None:
    weights = opened(write(tmp_path, a=MATRIX))
    assert weights.get("a").data_ptr() == weights.get("a").data_ptr()
    assert weights.get_shard("a", 0, 1, 2).data_ptr() == weights.get("a")[1:].data_ptr()


@pytest.mark.parametrize("call", ["get", "shape"])
def test_an_absent_tensor_is_named(tmp_path: Path, call: str) -> None:
    weights = opened(write(tmp_path, a=MATRIX))
    with pytest.raises(WeightsError, match="the checkpoint has no tensor z"):
        getattr(weights, call)("z")


def test_a_tensor_in_two_files_is_refused_naming_both(tmp_path: Path) -> None:
    write(tmp_path, "x.safetensors", a=MATRIX)
    write(tmp_path, "y.safetensors", a=MATRIX)
    with pytest.raises(WeightsError, match=r"tensor a is both in .*x\.safetensors and in .*y\.safetensors"):
        opened(tmp_path)


def test_original_format_copies_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, a=MATRIX)
    write(tmp_path, "consolidated.safetensors", a=MATRIX)
    assert set(opened(tmp_path).names()) == {"a"}


def test_only_files_named_by_the_index_are_read(tmp_path: Path) -> None:
    write(tmp_path, "part.safetensors", a=MATRIX)
    write(tmp_path, "left-over.safetensors", a=MATRIX)
    index = {"weight_map": {"a": "part.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert set(opened(tmp_path).names()) == {"a"}


def test_a_file_missing_from_the_index_is_told(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "part.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MissingWeightsError, match=r"part\.safetensors"):
        opened(tmp_path)


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has no weights"):
        opened(tmp_path)


def test_names_in_the_metadata_lead_to_the_tensor_that_was_kept(tmp_path: Path) -> None:
    save_file({"a": MATRIX}, tmp_path / "model.safetensors", metadata={"tied": "a", "format": "pt"})
    weights = opened(tmp_path)
    assert set(weights.names()) == {"a", "tied"}
    assert torch.equal(weights.get("tied"), MATRIX)


def good_file(folder: Path) -> bytes:
    return (write(folder, a=MATRIX) / "model.safetensors").read_bytes()


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda good: b"", "it is empty"),
        (lambda good: good[:5], "it is truncated: 5 bytes"),
        (lambda good: good[:40], "it is truncated: it ends within its header, after 40 bytes"),
        (lambda good: good[:-10], "it is truncated: 86 of 96 bytes of tensors are there"),
        (lambda good: good + b"123", "it is corrupt: 3 bytes too many"),
        (lambda good: b"\xff" * 100, "it is not a safetensors file"),
        (lambda good: b"PK\x03\x04" + good, "it is a PyTorch checkpoint"),
        (lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "it is a Git LFS pointer"),
        (lambda good: with_header(b"{]"), "its header is corrupt"),
        (lambda good: with_header(b'{"a": 1}'), "its header is corrupt"),
        (
            lambda good: with_header(b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', b"12345678"),
            "its header is corrupt: the tensors' types",
        ),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(tmp_path: Path, damage: Damage, reason: str) -> None:
    data = damage(good_file(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsError) as raised:
        opened(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / 'model.safetensors'} cannot be read: {reason}")
