import json
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest
from huggingface_hub import constants

from support.hub_server import Hub, Repository, run_hub
from tgi_common.hub import (
    BUNDLED_MODEL_ID,
    HubUnreachableError,
    ModelAccessError,
    ModelNotFoundError,
    ModelSource,
    Retry,
    fetch_config_files,
    fetch_weights,
    local_folder,
)
from tgi_common.model_files import MissingWeightsError, ModelFilesError

CONFIG = json.dumps({"model_type": "llama"}).encode()
SMALL = {"config.json": CONFIG, "tokenizer.json": b"{}", "chat_template.jinja": b"{{ messages }}"}
MODEL = {**SMALL, "model.safetensors": b"x" * 1000, "README.md": b"about", "onnx/model.onnx": b"y"}


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with run_hub() as hub:
        hub.repositories["org/model"] = Repository(dict(MODEL))
        yield hub


@pytest.fixture
def source(hub: Hub, tmp_path: Path) -> ModelSource:
    return ModelSource("org/model", cache_dir=tmp_path / "cache", endpoint=hub.endpoint)


class Pauses:
    """Stands in for sleeping between tries, and remembers how long each would have been."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_local_folder_is_used_as_it_is(tmp_path: Path) -> None:
    source = ModelSource(str(tmp_path))
    assert fetch_config_files(source) == fetch_weights(source) == tmp_path


def test_the_bundled_model_is_a_folder_of_the_package() -> None:
    folder = fetch_config_files(ModelSource(BUNDLED_MODEL_ID))
    assert folder.name == "model"
    assert folder.parent.name == "tgi_demo"


@pytest.mark.parametrize("model_id", ["/data/x", "./x", "../x", "~/no-such-folder-here", "a/b/c"])
def test_a_path_that_leads_nowhere_is_not_taken_for_a_hub_id(
    model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"is not a folder$"):
        local_folder(ModelSource(model_id))


def test_a_file_is_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="give the folder"):
        local_folder(ModelSource(str(path)))


@pytest.mark.parametrize("model_id", ["", "a b", "org/model name", "org//x"])
def test_what_is_neither_path_nor_hub_id_is_refused(model_id: str) -> None:
    with pytest.raises(ModelNotFoundError):
        local_folder(ModelSource(model_id))


def test_config_files_come_without_the_weights(hub: Hub, source: ModelSource) -> None:
    folder = fetch_config_files(source)
    assert names_in(folder) == set(SMALL)
    assert (folder / "config.json").read_bytes() == CONFIG
    assert hub.downloaded() == set(SMALL)


def test_weights_land_beside_the_config_files(hub: Hub, source: ModelSource) -> None:
    assert fetch_weights(source) == fetch_config_files(source)
    assert hub.downloaded() == {*SMALL, "model.safetensors"}


def test_what_is_cached_is_not_downloaded_again(hub: Hub, source: ModelSource) -> None:
    fetch_weights(source)
    hub.requests.clear()
    fetch_weights(source)
    assert hub.downloaded() == set()


def test_safetensors_are_preferred_to_what_torch_saved(hub: Hub, source: ModelSource) -> None:
    hub.repositories["org/model"].files["pytorch_model.bin"] = b"z"
    fetch_weights(source)
    assert hub.downloaded() == {"model.safetensors"}


def test_torch_files_are_taken_when_there_are_no_safetensors(hub: Hub, source: ModelSource) -> None:
    files = {**SMALL, "pytorch_model.bin": b"z", "training_args.bin": b"t", "optimizer.bin": b"o"}
    hub.repositories["org/model"] = Repository(files)
    fetch_weights(source)
    assert hub.downloaded() == {"pytorch_model.bin"}


def test_the_index_says_which_files_are_downloaded(hub: Hub, source: ModelSource) -> None:
    index = json.dumps({"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}).encode()
    files = {
        **MODEL,
        "model.safetensors.index.json": index,
        "part-1.safetensors": b"1",
        "part-2.safetensors": b"2",
    }
    hub.repositories["org/model"] = Repository(files)
    fetch_weights(source)
    assert hub.downloaded() == {
        "model.safetensors.index.json",
        "part-1.safetensors",
        "part-2.safetensors",
    }


def test_a_model_without_weights_is_told(hub: Hub, source: ModelSource) -> None:
    hub.repositories["org/model"] = Repository(dict(SMALL))
    with pytest.raises(MissingWeightsError, match="has no weights"):
        fetch_weights(source)


def test_the_weights_override_replaces_the_hub(hub: Hub, source: ModelSource, tmp_path: Path) -> None:
    assert fetch_weights(replace(source, weights_cache_override=tmp_path)) == tmp_path
    assert hub.requests == []


def test_a_weights_override_must_be_a_folder(source: ModelSource, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="override"):
        fetch_weights(replace(source, weights_cache_override=tmp_path / "absent"))


def test_an_unknown_repository_is_told_without_trying_again(hub: Hub, source: ModelSource) -> None:
    pauses = Pauses()
    with pytest.raises(ModelNotFoundError, match=r"org/nothing is neither a folder nor .* set HF_TOKEN"):
        fetch_config_files(replace(source, model_id="org/nothing"), Retry(sleep=pauses))
    assert pauses.seconds == []


def test_an_unknown_revision_is_told(source: ModelSource) -> None:
    with pytest.raises(ModelNotFoundError, match="has no revision 'v9'"):
        fetch_config_files(replace(source, revision="v9"))


def test_a_revision_is_fetched_by_its_name(hub: Hub, source: ModelSource) -> None:
    hub.repositories["org/model"].revisions = ("v1",)
    assert names_in(fetch_config_files(replace(source, revision="v1"))) == set(SMALL)


def test_a_gated_model_asks_for_a_token(hub: Hub, source: ModelSource) -> None:
    hub.repositories["org/model"].gated = True
    with pytest.raises(ModelAccessError, match="gated: set HF_TOKEN"):
        fetch_config_files(source)
    with pytest.raises(ModelAccessError, match="your token has no access"):
        fetch_config_files(replace(source, token="hf_secret"))


def test_the_token_opens_a_private_model(hub: Hub, source: ModelSource) -> None:
    hub.repositories["org/model"].token = "hf_secret"
    with pytest.raises(ModelNotFoundError):
        fetch_config_files(source)
    assert names_in(fetch_config_files(replace(source, token="hf_secret"))) == set(SMALL)


def test_the_token_is_not_shown() -> None:
    assert "hf_secret" not in repr(ModelSource("org/model", token="hf_secret"))


def test_a_failing_hub_is_asked_again_after_a_pause(hub: Hub, source: ModelSource) -> None:
    hub.failures = [HTTPStatus.INTERNAL_SERVER_ERROR] * 4
    pauses = Pauses()
    assert names_in(fetch_config_files(source, Retry(sleep=pauses))) == set(SMALL)
    assert pauses.seconds == [5.0] * 4


def test_a_download_that_breaks_off_is_completed(hub: Hub, source: ModelSource) -> None:
    hub.aborted_downloads = 1
    folder = fetch_weights(source, retry=Retry(sleep=Pauses()))
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


def test_five_failures_are_enough(hub: Hub, source: ModelSource) -> None:
    hub.failures = [HTTPStatus.INTERNAL_SERVER_ERROR] * 9
    pauses = Pauses()
    with pytest.raises(HubUnreachableError, match="cannot be reached for org/model"):
        fetch_config_files(source, Retry(sleep=pauses))
    assert len(pauses.seconds) == 4
    assert len(hub.failures) == 4


def test_the_cache_serves_while_the_hub_is_down(tmp_path: Path) -> None:
    with run_hub() as hub:
        hub.repositories["org/model"] = Repository(dict(MODEL))
        source = ModelSource("org/model", cache_dir=tmp_path, endpoint=hub.endpoint)
        folder = fetch_weights(source)
        fetch_config_files(source)
    retry = Retry(attempts=2, sleep=Pauses())
    assert fetch_config_files(source, retry) == fetch_weights(source, retry=retry) == folder
    with pytest.raises(HubUnreachableError, match="cannot be reached"):
        fetch_config_files(replace(source, model_id="org/other"), retry)


def test_offline_nobody_is_asked(hub: Hub, source: ModelSource) -> None:
    fetch_config_files(source)
    fetch_weights(source)
    hub.requests.clear()
    offline = replace(source, offline=True)
    assert "model.safetensors" in names_in(fetch_weights(offline))
    assert fetch_config_files(offline) == fetch_weights(offline)
    assert hub.requests == []


def test_offline_an_uncached_model_is_told(source: ModelSource) -> None:
    with pytest.raises(HubUnreachableError, match="cache does not hold org/model, and HF_HUB_OFFLINE"):
        fetch_config_files(replace(source, offline=True))


def test_offline_a_cache_without_weights_is_told(source: ModelSource) -> None:
    fetch_config_files(source)
    with pytest.raises(MissingWeightsError, match="holds no weights"):
        fetch_weights(replace(source, offline=True))


def test_a_cache_that_cannot_be_written_is_told_at_once(source: ModelSource, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    pauses = Pauses()
    with pytest.raises(ModelFilesError, match="cannot be stored"):
        fetch_config_files(replace(source, cache_dir=blocked / "cache"), Retry(sleep=pauses))
    assert pauses.seconds == []


def test_the_environment_is_read_as_tgi_reads_it() -> None:
    environment = {
        "HF_TOKEN": "b",
        "HF_API_TOKEN": "a\n",
        "HUGGINGFACE_HUB_CACHE": "/cache",
        "WEIGHTS_CACHE_OVERRIDE": "/weights",
        "HF_HUB_OFFLINE": "True",
        "HF_ENDPOINT": "http://hub",
    }
    assert ModelSource.from_environment("m", "r", environment) == ModelSource(
        model_id="m",
        revision="r",
        token="a",
        cache_dir=Path("/cache"),
        weights_cache_override=Path("/weights"),
        offline=True,
        endpoint="http://hub",
    )
    assert ModelSource.from_environment("m", None, {}) == ModelSource("m")
