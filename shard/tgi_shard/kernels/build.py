"""Compiles the kernels for this machine's processor, once: the library is kept for later starts.

A compile takes three seconds, so a shard waits for it when it starts. It is so short because torch's headers
are not needed; any C++17 compiler will do.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

SOURCES = Path(__file__).parent / "cpu"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-shared", "-w")
COMPILE_SECONDS = 120.0
"""A compiler that takes longer has hung; a slow machine needs ten seconds."""


class KernelError(Exception):
    """The kernels cannot be used on this machine. The message says why."""


def build_kernels(cache: Path, compiler: str | None = None) -> Path:
    """Answer the compiled library, compiling it unless `cache` holds it already.

    Args:
        cache: folder for the library; made if it does not exist, private to the user.
        compiler: the C++ compiler; None for the first of COMPILERS that is installed.

    Raises:
        KernelError: there is no compiler, or it fails.
    """
    path = _find_compiler(compiler)
    library = cache / f"kernels-{_fingerprint(path)}.so"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(cache)
        if not library.is_file():
            with _locked(cache):
                if not library.is_file():
                    _compile(path, library)
    except OSError as error:
        raise KernelError(f"the kernels cannot be kept in {cache}: {error.strerror}") from error
    return library


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Ranks start together: one compiles, the others wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_private(cache: Path) -> None:
    """Refuse a folder that another user could put code into."""
    found = cache.stat()
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KernelError(f"others can write to {cache}: make it yours alone, or set XDG_CACHE_HOME")


def _find_compiler(wanted: str | None) -> str:
    for name in (wanted,) if wanted else COMPILERS:
        if path := shutil.which(name):
            return path
    raise KernelError(f"there is no C++ compiler ({wanted or ', '.join(COMPILERS)})")


def _compile(compiler: str, library: Path) -> None:
    """Compile under another name first: a library that appears is whole."""
    log.info("compiling the CPU kernels for this processor: once, some seconds", folder=str(library.parent))
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        unfinished = Path(folder) / library.name
        sources = sorted(str(path) for path in SOURCES.glob("*.cpp"))
        command = [compiler, *FLAGS, *sources, "-o", str(unfinished)]
        try:
            subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=True, timeout=COMPILE_SECONDS
            )
        except OSError as error:
            raise KernelError(f"{compiler} does not run: {error.strerror}") from error
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if "error" in line] or ["no message"]
            raise KernelError(f"{compiler} does not compile the kernels: {lines[0]}") from error
        except subprocess.TimeoutExpired as error:
            raise KernelError(f"{compiler} took more than {COMPILE_SECONDS:.0f} s for the kernels") from error
        unfinished.replace(library)


def _fingerprint(compiler: str) -> str:
    """What the library depends on: sources, flags, compiler and processor."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sorted(SOURCES.iterdir()):
        if source.suffix in (".cpp", ".h"):
            digest.update(source.read_bytes())
    found = Path(compiler).stat()
    digest.update(f"{os.path.realpath(compiler)} {found.st_size} {found.st_mtime_ns}".encode())
    digest.update(_processor().encode())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """What `-march=native` looks at: a cache may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return ""
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
