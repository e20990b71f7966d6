"""Gets a model's weights ready to be opened: fetched if need be, converted if need be."""

import hashlib
import os
from pathlib import Path

import structlog

from tgi_common.hub import ModelSource, Retry, fetch_weights
from tgi_common.model_files import SAFETENSORS, TORCH_FORMATS, MissingWeightsError, find_weight_files
from tgi_common.progress import Progress
from tgi_shard.weights.convert import convert_file, converted_name
from tgi_shard.weights.errors import WeightsError

_log = structlog.get_logger(__name__)


def prepare_weights(
    source: ModelSource, converted: Path, progress: Progress | None = None, retry: Retry | None = None
) -> Path:
    """Folder with the model's safetensors files; what `download-weights` does, and `serve` before loading.

    Args:
        source: which model.
        converted: where conversions of checkpoints go that lie in a folder which cannot be written.
        progress: shows the download.
        retry: how stubbornly to try the Hub.

    Raises:
        ModelFilesError: the weights cannot be had, or cannot be converted.
    """
    folder = fetch_weights(source, progress, retry)
    try:
        if find_weight_files(folder, SAFETENSORS):
            return folder
    except MissingWeightsError:
        # Parts missing is also what a conversion that was cut short leaves.
        if not _torch_files(folder):
            raise
    return _convert_folder(folder, converted)


def _torch_files(folder: Path) -> list[Path]:
    return next(filter(None, (find_weight_files(folder, suffix) for suffix in TORCH_FORMATS)), [])


def _convert_folder(folder: Path, converted: Path) -> Path:
    sources = _torch_files(folder)
    if not sources:
        raise WeightsError(f"{folder} has no weights: neither *.safetensors nor *.bin files")
    target = folder
    if not os.access(folder, os.W_OK):
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        target = converted / identity
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number, source in enumerate(sources, start=1):
        path = target / converted_name(source.name)
        if not path.exists():
            _log.info(
                f"converting {source.name} to safetensors ({number} of {len(sources)})", target=str(path)
            )
            convert_file(source, path)
    return target
