"""Turns checkpoints saved by torch (`.bin`, `.pt`) into safetensors, once; never runs pickled code."""

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tgi_shard.weights.errors import WeightsError

_PREFIX = "pytorch_"
_FORBIDDEN_GLOBAL = re.compile(r"GLOBAL (\S+)")


def converted_name(name: str) -> str:
    """`pytorch_model-00001-of-00002.bin` becomes `model-00001-of-00002.safetensors`."""
    return Path(name.removeprefix(_PREFIX)).with_suffix(".safetensors").name


def convert_file(source: Path, target: Path) -> None:
    """Write the tensors of a torch checkpoint as safetensors, and check them by reading them back.

    A tensor stored once for several names stays so: the other names go into the file's metadata, each with
    the name that was kept (as in Hugging Face's own conversion). The target appears only when whole.

    Raises:
        WeightsError: the source is damaged, holds more than tensors, or the target cannot be written.
    """
    tensors, aliases = _split_shared(_load(source))
    # The process id keeps conversions apart that run at the same time.
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        save_file(tensors, partial, metadata={**aliases, "format": "pt"})
        _verify(tensors, partial)
        partial.replace(target)
    except OSError as error:
        raise WeightsError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _load(path: Path) -> Mapping[str, torch.Tensor]:
    loaded = _unpickle(path)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} does not hold tensors by name, but a {type(loaded).__name__}")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise WeightsError(f"{path} does not hold tensors by name: {name!r} is a {type(tensor).__name__}")
    return loaded


def _unpickle(path: Path) -> object:
    try:
        # What torch saved before 1.6 is no zip file and cannot be mapped into memory.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if match := _FORBIDDEN_GLOBAL.search(str(error)):
            raise WeightsError(f"{path} is refused: loading it would run code ({match[1]})") from None
        raise WeightsError(
            f"{path} cannot be read: it is no PyTorch checkpoint, or one that would run code"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise WeightsError(f"{path} cannot be read: {reason}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None


def _split_shared(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors to store, and for each name that is left out the name under which its tensor is stored."""
    kept: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    # The output head comes last: readers that know tied weights look for the embedding.
    for name in sorted(state, key=lambda name: ("lm_head" in name, name)):
        tensor = state[name]
        # Empty tensors all have the address 0.
        place = tensor.data_ptr() if tensor.numel() else name
        first = kept.setdefault((place, tensor.dtype, tensor.shape, tensor.stride()), name)
        if first != name:
            aliases[name] = first
    # Views into one storage that are not the same (slices of it) are copied apart, as the format asks.
    storages = [state[name].untyped_storage().data_ptr() for name in kept.values()]
    stored = {
        name: state[name].clone(memory_format=torch.contiguous_format)
        if storages.count(storage) > 1
        else state[name].contiguous()
        for name, storage in zip(kept.values(), storages, strict=True)
    }
    return stored, aliases


def _verify(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        for name, tensor in tensors.items():
            written = file.get_tensor(name)
            # Compared as bytes: NaN is not equal to itself.
            if written.dtype != tensor.dtype or not torch.equal(
                written.flatten().view(torch.uint8), tensor.flatten().view(torch.uint8)
            ):
                raise WeightsError(f"tensor {name} was not written correctly to {path}")
