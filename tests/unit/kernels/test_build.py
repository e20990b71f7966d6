"""The kernels are compiled once for a machine, and whatever goes wrong is said in one line."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tgi_shard.kernels import build
from tgi_shard.kernels.build import KernelError, build_kernels
from tgi_shard.kernels.library import CpuKernels
from unit.kernels.variants import installed_compiler, write_compiler

COMPILE = """
echo run >> "$(dirname "$0")/runs"
while [ "$1" != -o ]; do shift; done
echo library > "$2"
"""


def fake_compiler(folder: Path, script: str = COMPILE) -> str:
    return write_compiler(folder / "fake-c++", script)


def runs(folder: Path) -> int:
    """How often the fake compiler in a folder was run."""
    return len((folder / "runs").read_text().splitlines())


def assert_one_line(error: KernelError) -> None:
    assert len(str(error).splitlines()) == 1


def test_an_empty_cache_is_filled_with_a_library_that_loads(tmp_path: Path) -> None:
    installed_compiler()
    library = build_kernels(tmp_path / "new" / "cache")
    assert list((tmp_path / "new" / "cache").iterdir()) == [library]
    CpuKernels(library)


def test_what_was_compiled_is_not_compiled_again(tmp_path: Path) -> None:
    compiler = fake_compiler(tmp_path)
    first = build_kernels(tmp_path / "cache", compiler)
    assert build_kernels(tmp_path / "cache", compiler) == first
    assert runs(tmp_path) == 1


def test_of_two_that_want_it_at_once_one_compiles_and_the_other_waits(tmp_path: Path) -> None:
    compiler = fake_compiler(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: build_kernels(tmp_path / "cache", compiler), range(2))
    assert runs(tmp_path) == 1
    assert first == second
    assert first.read_text() == "library\n"
    assert list(first.parent.iterdir()) == [first]


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_cache_that_others_can_write_to_is_not_trusted(tmp_path: Path, mode: int) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    with pytest.raises(KernelError, match="others can write to"):
        build_kernels(tmp_path / "cache", fake_compiler(tmp_path))


def test_other_flags_make_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = fake_compiler(tmp_path)
    first = build_kernels(tmp_path / "cache", compiler)
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    assert build_kernels(tmp_path / "cache", compiler) != first


@pytest.mark.parametrize("name", ["new.cpp", "new.h"])
def test_other_sources_make_another_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    compiler = fake_compiler(tmp_path)
    libraries = []
    for text in ("one", "two"):
        (tmp_path / name).write_text(text)
        libraries.append(build_kernels(tmp_path / "cache", compiler))
    assert libraries[0] != libraries[1]


def test_another_compiler_and_another_processor_make_other_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, compiler = tmp_path / "cache", fake_compiler(tmp_path)
    libraries = [build_kernels(cache, compiler)]
    libraries.append(build_kernels(cache, fake_compiler(tmp_path, COMPILE + "# a newer one")))
    monkeypatch.setattr(build, "_processor", lambda: "another")
    libraries.append(build_kernels(cache, compiler))
    assert len(set(libraries)) == 3


def test_the_cache_is_private_to_its_user(tmp_path: Path) -> None:
    build_kernels(tmp_path / "cache", fake_compiler(tmp_path))
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("wanted", [None, "no-such-compiler"])
def test_a_machine_without_a_compiler_is_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelError, match=r"no C\+\+ compiler") as raised:
        build_kernels(tmp_path / "cache", wanted)
    assert_one_line(raised.value)
    assert not (tmp_path / "cache").exists()


def test_a_compiler_that_fails_is_quoted_with_its_first_error(tmp_path: Path) -> None:
    compiler = fake_compiler(
        tmp_path, "echo 'in a.cpp:\na.cpp:1: error: bad\nb.cpp:2: error: worse' >&2; exit 1"
    )
    with pytest.raises(KernelError, match=r"does not compile.*a\.cpp:1: error: bad") as raised:
        build_kernels(tmp_path / "cache", compiler)
    assert_one_line(raised.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_compiler_that_fails_without_a_word_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="no message"):
        build_kernels(tmp_path / "cache", fake_compiler(tmp_path, "exit 3"))


def test_a_compiler_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "COMPILE_SECONDS", 0.2)
    with pytest.raises(KernelError, match="took more than") as raised:
        build_kernels(tmp_path / "cache", fake_compiler(tmp_path, "exec tail -f /dev/null"))
    assert_one_line(raised.value)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    # The last cannot even be looked for, like one in another user's home.
    for cache in (tmp_path / "file", tmp_path / "file" / "cache", tmp_path / ("long" * 100)):
        with pytest.raises(KernelError, match=f"cannot be kept in {cache}") as raised:
            build_kernels(cache, fake_compiler(tmp_path))
        assert_one_line(raised.value)


def test_what_is_compiled_is_told_of_once(tmp_path: Path) -> None:
    compiler = fake_compiler(tmp_path)
    with capture_logs() as logs:
        for _ in range(2):
            build_kernels(tmp_path / "cache", compiler)
    assert [(entry["log_level"], entry["folder"]) for entry in logs] == [("info", str(tmp_path / "cache"))]


def test_a_library_that_does_not_load_is_an_error_of_the_kernels(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="do not load"):
        CpuKernels(build_kernels(tmp_path / "cache", fake_compiler(tmp_path)))


@pytest.mark.parametrize("flags", [(), ("-march=native",)], ids=["any-processor", "this-processor"])
def test_the_sources_give_no_warnings(flags: tuple[str, ...]) -> None:
    language = ("-std=c++17", "-fopenmp", "-fsyntax-only")
    warnings = ("-Wall", "-Wextra", "-Wshadow", "-Wno-psabi", "-Werror")
    sources = [str(path) for path in sorted(build.SOURCES.glob("*.cpp"))]
    command = [installed_compiler(), *language, *flags, *warnings, *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
