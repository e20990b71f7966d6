"""What is checked before any process starts, so that a user sees at once why it cannot work."""

import ipaddress
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from tgi_common.options import variable_name
from tgi_common.sockets import MAX_SOCKET_PATH, fits_socket_path

_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - a server's default, as TGI's


class PreflightError(Exception):
    """The server cannot start as asked for. The message is one line for the user."""


def bind_address(hostname: str | None, environment: Mapping[str, str]) -> str:
    """The IP address to listen on.

    HOSTNAME is set by most shells and containers to the machine's name: it counts only if it is an address.

    Raises:
        PreflightError: a name was asked for that has no address.
    """
    if hostname is None:
        value = environment.get(variable_name("--hostname"), "")
        return value if _is_address(value) else _ANY_ADDRESS
    return resolve(hostname, "--hostname")


def resolve(name: str, flag: str) -> str:
    """The IP address of a host.

    Raises:
        PreflightError: it has none.
    """
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError):  # the latter for a name that is too long
        raise PreflightError(f"{flag} {name} is not an address, and has none") from None


def check_port(address: str, port: int, flag: str) -> None:
    """Hold that a TCP port can be listened on.

    Raises:
        PreflightError: it is in use, or not allowed.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of a server that has just ended do not matter; one that listens still does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise PreflightError(
                f"cannot listen on port {port} of {address}: {reason}; choose another with {flag}"
            ) from None


def find_free_port() -> int:
    """A TCP port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def shard_sockets(prefix: Path, num_shard: int) -> list[Path]:
    """Sockets of all shards, by rank, named as TGI names them.

    Raises:
        PreflightError: the prefix is a folder by its form, so that no name can be made of it, or has a
            character that means something else in the address that gRPC makes of it.
    """
    if prefix.name in {"", ".."}:
        raise PreflightError(f"--shard-uds-path: {prefix} does not end in a name; try {prefix / 'shard'}")
    if set("%?#,") & set(str(prefix.absolute())):
        raise PreflightError(f"--shard-uds-path: {prefix.absolute()} must not contain any of % ? # ,")
    return [prefix.absolute().with_name(f"{prefix.name}-{rank}") for rank in range(num_shard)]


def clear_sockets(sockets: Sequence[Path]) -> None:
    """Make way for the shards' sockets: those that nobody listens on any more are removed.

    Raises:
        PreflightError: one is in use, is no socket, or cannot be created.
    """
    folder = sockets[0].parent
    if not folder.is_dir():
        raise PreflightError(f"--shard-uds-path: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PreflightError(f"--shard-uds-path: {folder} cannot be written to")
    for path in sockets:
        if not fits_socket_path(path):
            raise PreflightError(f"--shard-uds-path: {path} is too long (at most {MAX_SOCKET_PATH} bytes)")
        _clear_socket(path)


def remove_sockets(sockets: Sequence[Path]) -> None:
    """Remove what killed shards left behind."""
    for path in sockets:
        path.unlink(missing_ok=True)


def _clear_socket(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise PreflightError(f"--shard-uds-path: {path} is in the way and not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            # It belongs to another user, or its owner is too busy to answer: alive in any case.
            pass
    raise PreflightError(f"--shard-uds-path: another server uses {path}; give each server a path of its own")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
