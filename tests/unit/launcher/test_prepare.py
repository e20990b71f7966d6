import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from structlog.testing import capture_logs

from tgi_common.logging import LogLevel
from tgi_common.model_files import InvalidConfigError, ModelFilesError
from tgi_launcher import prepare as module
from tgi_launcher.output import ChildLog, CopiedLog
from tgi_launcher.preflight import PreflightError, find_free_port
from tgi_launcher.prepare import prepare
from tgi_launcher.settings import Settings
from tgi_launcher.supervise import Group


@pytest.fixture(autouse=True)
def a_machine_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "list_gpus", list)


@pytest.fixture
def prefix() -> Iterator[Path]:
    with TemporaryDirectory(prefix="tgi-") as folder:
        yield Path(folder) / "s"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "model.safetensors").touch()
    return tmp_path


def prepared(prefix: Path, environment: dict[str, str] | None = None, **options: Any) -> Group:
    settings = Settings(**{"port": find_free_port(), "shard_uds_path": prefix, **options})
    return prepare(settings, environment or {}, LogLevel.INFO, io.StringIO())


def test_the_bundled_model_is_served_by_one_shard_without_a_download(prefix: Path) -> None:
    group = prepared(prefix, hostname="127.0.0.1")
    assert group.download is None
    assert [plan.name for plan in group.shards] == ["shard 0"]
    assert group.sockets == (prefix.with_name("s-0"),)
    assert group.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("hostname", "url"), [("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:"), ("::", "http://[::1]:")]
)
def test_the_url_is_one_that_this_machine_reaches(prefix: Path, hostname: str, url: str) -> None:
    if ":" in hostname and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    assert prepared(prefix, hostname=hostname).url.startswith(url)


def test_a_folder_without_safetensors_is_converted_first(prefix: Path, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    group = prepared(prefix, model_id=str(model))
    assert group.download is not None
    assert group.download.name == "download"


def test_an_override_counts_in_place_of_the_model(prefix: Path, model: Path, tmp_path: Path) -> None:
    override = tmp_path / "weights"
    override.mkdir()
    assert prepared(prefix, model_id=str(model), weights_cache_override=override).download is not None
    (override / "model.safetensors").touch()
    assert prepared(prefix, model_id=str(model), weights_cache_override=override).download is None


def test_what_is_decided_is_logged(prefix: Path, model: Path) -> None:
    with capture_logs() as entries:
        prepared(prefix, {"OMP_NUM_THREADS": "3", "HF_TOKEN": "hf_secret"}, model_id=str(model), num_shard=2)
    assert [entry["event"] for entry in entries] == [f"serving {model} with 2 shards"]
    assert entries[0]["threads_per_shard"] == "3"
    assert "hf_secret" not in repr(entries)


def test_a_missing_folder_is_told(prefix: Path) -> None:
    with pytest.raises(ModelFilesError, match="/no/such/folder is not a folder"):
        prepared(prefix, model_id="/no/such/folder")


def test_a_folder_that_is_no_model_is_told(prefix: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match=r"has no config\.json"):
        prepared(prefix, model_id=str(tmp_path))


def test_a_port_in_use_is_told_before_anything_starts(prefix: Path, model: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PreflightError, match=f"port {port}.*--port"):
            prepared(prefix, model_id=str(model), port=port, hostname="127.0.0.1")
        with pytest.raises(PreflightError, match=f"port {port}.*--master-port"):
            prepared(prefix, model_id=str(model), master_port=port, num_shard=2)
        assert prepared(prefix, model_id=str(model), master_port=port).shards, "one shard meets nobody"


def test_shards_and_router_are_logged_each_in_their_way(prefix: Path, model: Path) -> None:
    group = prepared(prefix, model_id=str(model))
    assert isinstance(group.make_output(group.shards[0]), ChildLog)
    assert isinstance(group.make_output(group.router), CopiedLog)
