"""What the path of a Unix socket must keep to."""

import os
from pathlib import Path

MAX_SOCKET_PATH = 107
"""Bytes: sun_path holds 108 with its closing zero."""


def fits_socket_path(path: Path) -> bool:
    """Whether the system can bind a socket to this path."""
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH
