import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tgi_launcher import preflight
from tgi_launcher.preflight import (
    PreflightError,
    bind_address,
    check_port,
    clear_sockets,
    find_free_port,
    remove_sockets,
    shard_sockets,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    # A socket's path may not exceed 107 bytes; pytest's own folders do in places.
    with TemporaryDirectory(prefix="tgi-") as name:
        yield Path(name)


@contextmanager
def listening(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


def leave_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("prefix", ["", "/", "..", "/tmp/.."])
def test_a_prefix_of_sockets_must_have_a_name(prefix: str) -> None:
    with pytest.raises(PreflightError, match="--shard-uds-path"):
        shard_sockets(Path(prefix), 1)


@pytest.mark.parametrize("name", ["x?y", "x#y", "x,y", "x%41"])
def test_a_path_that_an_address_would_change_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(PreflightError, match=r"--shard-uds-path: .* must not contain any of % \? # ,"):
        shard_sockets(folder / name, 1)


@pytest.mark.parametrize(
    ("hostname", "environment", "address"),
    [
        (None, {}, "0.0.0.0"),
        (None, {"HOSTNAME": "127.0.0.1"}, "127.0.0.1"),
        (None, {"HOSTNAME": "::"}, "::"),
        (None, {"HOSTNAME": "d41d8cd98f00"}, "0.0.0.0"),
        (None, {"HOSTNAME": "localhost"}, "0.0.0.0"),
        ("127.0.0.1", {"HOSTNAME": "0.0.0.0"}, "127.0.0.1"),
        ("::1", {}, "::1"),
    ],
)
def test_a_container_name_in_hostname_is_no_address(
    hostname: str | None, environment: dict[str, str], address: str
) -> None:
    assert bind_address(hostname, environment) == address


def test_a_name_on_the_command_line_is_resolved() -> None:
    assert bind_address("localhost", {}) in {"127.0.0.1", "::1"}


def test_a_name_without_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(preflight.socket, "getaddrinfo", unknown)
    with pytest.raises(PreflightError, match="--hostname nowhere is not an address"):
        bind_address("nowhere", {})


def test_a_port_in_use_is_told_with_the_option_that_changes_it() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PreflightError, match=rf"port {port} of 127\.0\.0\.1: Address .*in use.*--port"):
            check_port("127.0.0.1", port, "--port")
    check_port("127.0.0.1", port, "--port")


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(PreflightError, match=r"192\.0\.2\.1"):
        check_port("192.0.2.1", 3000, "--port")


def test_a_free_port_can_be_listened_on() -> None:
    check_port("127.0.0.1", find_free_port(), "--master-port")


def test_sockets_are_named_by_rank() -> None:
    assert shard_sockets(Path("/run/x.y"), 2) == [Path("/run/x.y-0"), Path("/run/x.y-1")]
    assert shard_sockets(Path("x"), 1) == [Path.cwd() / "x-0"]


def test_stale_sockets_make_way(folder: Path) -> None:
    sockets = shard_sockets(folder / "s", 2)
    leave_stale(sockets[1])
    clear_sockets(sockets)
    assert list(folder.iterdir()) == []


def test_the_socket_of_a_running_server_is_left_alone(folder: Path) -> None:
    sockets = shard_sockets(folder / "s", 2)
    with listening(sockets[1]), pytest.raises(PreflightError, match=r"another server uses .*s-1"):
        clear_sockets(sockets)
    assert sockets[1].exists()


def test_a_file_in_the_way_is_not_removed(folder: Path) -> None:
    (folder / "s-0").write_text("mine")
    with pytest.raises(PreflightError, match="in the way and not a socket"):
        clear_sockets([folder / "s-0"])
    assert (folder / "s-0").read_text() == "mine"


@pytest.mark.parametrize("prefix", ["absent/s", "file/s"])
def test_sockets_need_a_folder(folder: Path, prefix: str) -> None:
    (folder / "file").touch()
    with pytest.raises(PreflightError, match="is not a folder"):
        clear_sockets([folder / prefix])


def test_a_folder_that_cannot_be_written_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PreflightError, match="cannot be written to"):
        clear_sockets([folder / "s-0"])


def test_a_path_too_long_for_a_socket_is_told(folder: Path) -> None:
    with pytest.raises(PreflightError, match=r"too long \(at most 107 bytes\)"):
        clear_sockets([folder / ("s" * 120)])


def test_what_killed_shards_left_is_removed(folder: Path) -> None:
    sockets = shard_sockets(folder / "s", 2)
    leave_stale(sockets[0])
    remove_sockets(sockets)
    assert list(folder.iterdir()) == []
