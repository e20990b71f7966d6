"""A model named by its Hub id is downloaded, served, and found in the cache the next time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub_server import Hub, Repository, run_hub
from support.server import Launch
from tgi_demo import MODEL_PATH

MODEL_ID = "org/tiny"
TOKEN = "hf_secret0secret0secret"
SECONDS_TO_FAIL = 20.0

pytestmark = pytest.mark.slow


@pytest.fixture
def hub() -> Iterator[Hub]:
    with run_hub() as hub:
        files = {path.name: path.read_bytes() for path in MODEL_PATH.iterdir() if path.is_file()}
        hub.repositories[MODEL_ID] = Repository(
            files | {"README.md": b"# tiny", "onnx/model.onnx": b"0" * 100}
        )
        yield hub


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """Points a launcher at the stand-in and at caches of its own."""
    cache = tmp_path / "hub-cache"
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf-home"),
        "HUGGINGFACE_HUB_CACHE": str(cache),
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "",
        "HF_HUB_OFFLINE": "0",
    }


def test_a_private_revision_is_downloaded_served_and_then_found_in_the_cache(
    hub: Hub, environment: dict[str, str], start_launcher: Launch
) -> None:
    files = hub.repositories[MODEL_ID].files
    hub.repositories[MODEL_ID] = Repository(files, token=TOKEN, revisions=("main", "v2"))
    options = ("--model-id", MODEL_ID, "--revision", "v2")
    first = start_launcher(*options, env=environment | {"HF_TOKEN": TOKEN})
    first.wait_until_ready()
    assert first.api.get("/info").json()["model_id"] == MODEL_ID
    answer = first.api.chat("What is 12 + 7?")
    assert answer["model"] == MODEL_ID
    assert "19" in answer["choices"][0]["message"]["content"]
    first.stop()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= hub.downloaded()
    assert "onnx/model.onnx" not in hub.downloaded()
    assert any("/v2" in request for request in hub.requests)

    hub.requests.clear()
    offline = start_launcher(*options, env=environment | {"HF_HUB_OFFLINE": "1"})
    offline.wait_until_ready()
    assert "19" in offline.api.chat("What is 12 + 7?")["choices"][0]["message"]["content"]
    offline.stop()
    assert not hub.requests
    assert TOKEN not in first.log + offline.log


def test_a_private_model_is_refused_without_its_token(
    hub: Hub, environment: dict[str, str], start_launcher: Launch
) -> None:
    hub.repositories[MODEL_ID] = Repository(hub.repositories[MODEL_ID].files, token=TOKEN)
    server = start_launcher("--model-id", MODEL_ID, env=environment)
    assert server.wait_for_exit(SECONDS_TO_FAIL) != 0
    assert MODEL_ID in server.log
    assert "Traceback" not in server.log, server.log
    server.assert_nothing_left()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("org/unknown", [], ["org/unknown"]),
        (MODEL_ID, ["--revision", "no-such-branch"], ["no-such-branch"]),
    ],
)
def test_what_the_hub_does_not_have_is_named(
    environment: dict[str, str], start_launcher: Launch, name: str, options: list[str], words: list[str]
) -> None:
    server = start_launcher("--model-id", name, *options, env=environment)
    assert server.wait_for_exit(SECONDS_TO_FAIL) != 0
    last = "\n".join(server.log.strip().splitlines()[-4:])
    assert all(word in last for word in words), server.log
    assert "Traceback" not in server.log, server.log
    server.assert_nothing_left()


def test_a_gated_model_says_that_access_must_be_asked_for(
    hub: Hub, environment: dict[str, str], start_launcher: Launch
) -> None:
    hub.repositories[MODEL_ID] = Repository(hub.repositories[MODEL_ID].files, gated=True)
    server = start_launcher("--model-id", MODEL_ID, env=environment)
    assert server.wait_for_exit(SECONDS_TO_FAIL) != 0
    said = server.log.lower()
    assert "gated" in said or "access" in said or "token" in said, server.log
    assert "Traceback" not in server.log, server.log
    server.assert_nothing_left()
