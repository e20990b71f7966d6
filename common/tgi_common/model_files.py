"""Which files make up a model, told from their names alone; the same rules for a folder and for the Hub."""

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

SAFETENSORS = ".safetensors"
TORCH_FORMATS = (".bin", ".pt")
WEIGHT_FORMATS = (SAFETENSORS, *TORCH_FORMATS)
"""What weights may be stored in, best first."""

_INDEX_NAMES = {SAFETENSORS: "model.safetensors.index.json", ".bin": "pytorch_model.bin.index.json"}

_CONFIG_SUFFIXES = (".json", ".jinja", ".model", ".txt", ".tiktoken")
_NOT_WEIGHTS = ("arguments", "args", "training", "optimizer", "scheduler", "scaler")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.")


class ModelFilesError(Exception):
    """A model's files cannot be had or used. The message is one line for the user."""


class InvalidConfigError(ModelFilesError):
    """config.json is absent, or is not a JSON object that names a model type."""


class MissingWeightsError(ModelFilesError):
    """A weight file that must be there is not."""


def select_config_names(names: Iterable[str]) -> list[str]:
    """Names of the small files: config, tokenizer, chat templates."""
    return sorted(
        name
        for name in names
        if name.endswith(_CONFIG_SUFFIXES)
        and not name.endswith(".index.json")
        and ("/" not in name or name.startswith("additional_chat_templates/"))
    )


def select_weight_names(names: Iterable[str], suffix: str) -> list[str]:
    """Names of the weight files of one format, without those that hold no weights or hold them twice.

    Left out are files in sub-folders, what a training run leaves behind, and, where others are there, the
    original-format copies (`consolidated*`) and adapters that many repositories carry beside the weights.
    """
    found = sorted(
        name
        for name in names
        if name.endswith(suffix) and "/" not in name and not any(word in name for word in _NOT_WEIGHTS)
    )
    main = [name for name in found if not name.startswith(("consolidated", "adapter_"))]
    return main or found


def find_index_name(names: Collection[str], suffix: str) -> str | None:
    """Name of the file that says which weight files of this format count, if there is one."""
    name = _INDEX_NAMES.get(suffix)
    return name if name in names else None


def find_weight_files(folder: Path, suffix: str) -> list[Path]:
    """The weight files of one format in a folder; an index file, when there, says which ones count.

    Raises:
        ModelFilesError: the index cannot be read.
        MissingWeightsError: a file named by the index, or a numbered part, is missing.
    """
    present = {path.name for path in folder.iterdir() if path.is_file()}
    if (index := find_index_name(present, suffix)) is not None:
        names = read_index(folder / index)
    else:
        names = select_weight_names(present, suffix)
        names = sorted({*names, *_announced_parts(names)})
    if missing := [name for name in names if name not in present]:
        raise MissingWeightsError(f"the model in {folder} is incomplete: it lacks {', '.join(missing)}")
    return [folder / name for name in names]


def read_index(path: Path) -> list[str]:
    """File names that a `*.index.json` maps tensors to.

    Raises:
        ModelFilesError: it is not an index, or names files outside its folder.
    """
    index = _read_json(path)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelFilesError(f"{path} is not a weight index: it has no weight_map to file names")
    names = sorted(set(weight_map.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise ModelFilesError(f"{path} names a file outside its folder: {outside[0]!r}")
    return names


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        InvalidConfigError: it is absent, not JSON, or lacks `model_type`.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InvalidConfigError(f"{folder} is not a model folder: it has no config.json")
    try:
        config = read_json_object(path)
    except ModelFilesError as error:
        raise InvalidConfigError(str(error)) from None
    if not isinstance(config.get("model_type"), str):
        raise InvalidConfigError(f"{path} does not say its model_type")
    return config


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ModelFilesError: it cannot be read, is not JSON, or holds something else.
    """
    content = _read_json(path)
    if not isinstance(content, dict):
        raise ModelFilesError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content


def _read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFilesError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # the latter for brackets within brackets without end
        raise ModelFilesError(f"{path} is not valid JSON: {error}") from None


def _announced_parts(names: list[str]) -> list[str]:
    """All names that one like `model-00001-of-00003.safetensors` announces."""
    announced: list[str] = []
    for name in names:
        if match := _PART.search(name):
            head, tail, total = name[: match.start()], name[match.end() :], int(match[2])
            announced += [f"{head}-{part:05d}-of-{total:05d}.{tail}" for part in range(1, total + 1)]
    return announced
