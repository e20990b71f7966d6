"""Servers for the integration tests: shared ones for a whole run, and a factory for other options."""

import contextlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

from support.server import Launch, Server, exact_options, launch, serving

LOG_LINES_SHOWN = 60


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server") / "server.log", *exact_options()) as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Server:
    """The demo model with default options; shared, so a test leaves it as it found it."""
    assert _server.alive, f"an earlier test broke the shared server:\n{_server.log}"
    return _server


@pytest.fixture(scope="session")
def _tight_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = (*exact_options(), "--max-batch-size", "2", "--json-output")
    environment = {"MAX_CONCURRENT_REQUESTS": "4", "MAX_BATCH_PREFILL_TOKENS": "32"}
    log_path = tmp_path_factory.mktemp("tight") / "server.log"
    with serving(log_path, *options, env=environment) as server:
        yield server


@pytest.fixture
def tight_server(_tight_server: Server) -> Server:
    """Four requests at most, two of them running, 32 prompt tokens a step; shared."""
    assert _tight_server.alive, f"an earlier test broke the shared server:\n{_tight_server.log}"
    return _tight_server


@pytest.fixture(scope="session")
def _two_shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log_path = tmp_path_factory.mktemp("two-shards") / "server.log"
    with serving(log_path, "--dtype", "float32", "--num-shard", "2") as server:
        yield server


@pytest.fixture
def two_shards(_two_shards: Server) -> Server:
    """The demo model in float32, split between two shards; shared."""
    assert _two_shards.alive, f"an earlier test broke the shared server:\n{_two_shards.log}"
    return _two_shards


@pytest.fixture
def start_launcher(tmp_path: Path) -> Iterator[Launch]:
    """Start launchers with any options; whatever they leave is killed after the test."""
    with contextlib.ExitStack() as stack:

        def start(
            *options: str,
            env: Mapping[str, str] | None = None,
            port: int | None = None,
            uds_path: Path | None = None,
        ) -> Server:
            log_path = tmp_path / f"launcher-{len(list(tmp_path.glob('launcher-*.log')))}.log"
            server = launch(log_path, *options, env=env, port=port, uds_path=uds_path)
            stack.callback(server.discard)
            return server

        yield start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of a server's log beside a failed test that used the server."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Server) and not name.startswith("_"):
                tail = "\n".join(value.log.splitlines()[-LOG_LINES_SHOWN:])
                report.sections.append((f"log of {name}", tail))
    return report
