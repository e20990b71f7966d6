"""What can be wrong with weight files, in words for the user."""

import json
import struct
from pathlib import Path

from tgi_common.model_files import ModelFilesError

_SAFETENSORS_HEADER_LIMIT = 100_000_000
"""Bytes; the limit of the format itself."""


class WeightsError(ModelFilesError):
    """A weight file or a tensor in it cannot be used. The message names it and says why."""


def explain_bad_safetensors(path: Path) -> str:
    """Say why a file is no safetensors file, from its bytes (the library's words differ by version).

    The format: 8 bytes header length (little endian), a JSON header with each tensor's place, the data.
    """
    size = path.stat().st_size
    if size == 0:
        return "it is empty"
    with path.open("rb") as file:
        start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            return "it is a Git LFS pointer, not the file itself (run `git lfs pull`)"
        if start.startswith((b"PK\x03\x04", b"\x80\x02")):
            return "it is a PyTorch checkpoint, not a safetensors file"
        if size < 8:
            return f"it is truncated: {size} bytes"
        (header_size,) = struct.unpack("<Q", start[:8])
        if header_size > _SAFETENSORS_HEADER_LIMIT:
            return "it is not a safetensors file"
        if size < 8 + header_size:
            return f"it is truncated: it ends within its header, after {size} bytes"
        file.seek(8)
        header = file.read(header_size)
    return _explain_bad_header(header, size - 8 - header_size)


def _explain_bad_header(header: bytes, data_size: int) -> str:
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        announced = int(max(ends, default=0))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return "its header is corrupt"
    if data_size < announced:
        return f"it is truncated: {data_size} of {announced} bytes of tensors are there"
    if data_size > announced:
        return f"it is corrupt: {data_size - announced} bytes too many"
    return "its header is corrupt: the tensors' types, shapes and places do not fit together"
