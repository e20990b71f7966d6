"""Tensors of a folder's safetensors files, by name; only the bytes that are asked for are read."""

import contextlib
from collections import ChainMap
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import SafetensorError, safe_open

from tgi_common.model_files import SAFETENSORS, find_weight_files
from tgi_shard.weights.errors import WeightsError, explain_bad_safetensors

_CASTABLE = {"F64", "F32", "F16", "BF16"}
"""Floating types whose numbers are the weights; narrower ones are worth nothing without their scales."""

_EXACT = {"BOOL", "U8", "I8", "I16", "I32", "I64"}


class _Slice(Protocol):
    """What safetensors, which ships without types, offers of one tensor."""

    def get_shape(self) -> list[int]: ...
    def get_dtype(self) -> str: ...
    def __getitem__(self, index: tuple[slice, ...]) -> torch.Tensor: ...


class _File(Protocol):
    """An open safetensors file."""

    def keys(self) -> list[str]: ...
    def metadata(self) -> dict[str, str] | None: ...
    def get_tensor(self, name: str) -> torch.Tensor: ...
    def get_slice(self, name: str) -> _Slice: ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a tensor lies: its file, and its name there (another one for a tensor stored once for two)."""

    path: Path
    file: _File
    name: str


class SafetensorsWeights:
    """The weights of one model. On the CPU an uncast tensor is a view into the mapped file, not a copy."""

    def __init__(self, entries: Mapping[str, _Entry], device: torch.device, dtype: torch.dtype) -> None:
        self._entries = entries
        self._device = device
        self._dtype = dtype

    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._entries.keys()

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """The whole tensor's shape, without reading it."""
        entry = self._entry(name)
        return tuple(entry.file.get_slice(entry.name).get_shape())

    def get(self, name: str) -> torch.Tensor:
        """The whole tensor on the device; floating types are cast to the model's.

        Raises:
            WeightsError: there is no such tensor, or its type cannot be served.
        """
        entry = self._entry(name)
        self._check_type(name, entry)
        return self._place(entry.file.get_tensor(entry.name), entry)

    def get_shard(self, name: str, dim: int, start: int, stop: int) -> torch.Tensor:
        """As `get`, but only the indices `start` to `stop` (exclusive) along `dim`; contiguous.

        Raises:
            WeightsError: as `get`, or the slice is not within the tensor.
        """
        entry = self._entry(name)
        self._check_type(name, entry)
        shape = self.shape(name)
        if not (0 <= dim < len(shape) and 0 <= start <= stop <= shape[dim]):
            raise WeightsError(f"tensor {name} has shape {list(shape)}: no slice {start}:{stop} in dim {dim}")
        index = (*[slice(None)] * dim, slice(start, stop))
        return self._place(entry.file.get_slice(entry.name)[index].contiguous(), entry)

    def _entry(self, name: str) -> _Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise WeightsError(f"the checkpoint has no tensor {name}") from None

    def _check_type(self, name: str, entry: _Entry) -> None:
        stored = entry.file.get_slice(entry.name).get_dtype()
        if stored not in _CASTABLE | _EXACT:
            raise WeightsError(f"tensor {name} in {entry.path} has type {stored}, which cannot be served")

    def _place(self, tensor: torch.Tensor, entry: _Entry) -> torch.Tensor:
        try:
            return tensor.to(self._device, self._dtype if tensor.is_floating_point() else tensor.dtype)
        except torch.OutOfMemoryError:
            raise WeightsError(
                f"{self._device} has no memory left for {entry.name} of {entry.path}"
            ) from None


def open_weights(folder: Path, device: torch.device | str, dtype: torch.dtype) -> SafetensorsWeights:
    """Index the tensors of all safetensors files of a folder.

    Args:
        folder: holds the files; an index file, when there, says which ones count.
        device: where tensors go.
        dtype: what floating tensors become.

    Raises:
        ModelFilesError: a file is missing.
        WeightsError: there are no files, one is damaged, or two hold a tensor of the same name.
    """
    paths = find_weight_files(folder, SAFETENSORS)
    if not paths:
        raise WeightsError(f"{folder} has no weights: no *.safetensors files")
    entries: dict[str, _Entry] = {}
    aliases: dict[str, _Entry] = {}
    for path in paths:
        file = _open(path)
        names = file.keys()
        for name in names:
            if name in entries:
                raise WeightsError(f"tensor {name} is both in {entries[name].path} and in {path}")
            entries[name] = _Entry(path, file, name)
        for name, stored in (file.metadata() or {}).items():
            if stored in names:
                aliases[name] = _Entry(path, file, stored)
    return SafetensorsWeights(ChainMap(entries, aliases), torch.device(device), dtype)


def _open(path: Path) -> _File:
    try:
        return cast("_File", safe_open(path, framework="pt"))
    except SafetensorError as error:
        reason = str(error)
        with contextlib.suppress(OSError):
            reason = explain_bad_safetensors(path)
        raise WeightsError(f"{path} cannot be read: {reason}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
