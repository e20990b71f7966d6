"""A model named by its Hub id is downloaded, served, and found in the cache the next time."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from support.hub_server import Hub, Repository, run_hub
from support.prompts import chat_prompt
from support.server import Launch
from tgi_demo import MODEL_PATH

MODEL_ID = "org/tiny"
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


def test_a_hub_id_is_downloaded_served_and_then_found_in_the_cache(
    hub: Hub, environment: dict[str, str], start_launcher: Launch
) -> None:
    first = start_launcher("--model-id", MODEL_ID, env=environment)
    first.wait_until_ready()
    assert first.api.get("/info").json()["model_id"] == MODEL_ID
    assert "19" in first.api.generate(chat_prompt("What is 12 + 7?"), max_new_tokens=8)["generated_text"]
    assert first.api.chat("What is 12 + 7?")["model"] == MODEL_ID
    first.stop()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= hub.downloaded()
    assert "onnx/model.onnx" not in hub.downloaded()

    hub.requests.clear()
    offline = start_launcher("--model-id", MODEL_ID, env=environment | {"HF_HUB_OFFLINE": "1"})
    offline.wait_until_ready()
    assert "19" in offline.api.chat("What is 12 + 7?")["choices"][0]["message"]["content"]
    assert not hub.requests
    offline.stop()


def test_a_private_model_needs_its_token_which_is_never_logged(
    hub: Hub, environment: dict[str, str], start_launcher: Launch
) -> None:
    token = "hf_secret0secret0secret"
    hub.repositories[MODEL_ID] = Repository(hub.repositories[MODEL_ID].files, token=token)
    refused = start_launcher("--model-id", MODEL_ID, env=environment)
    assert refused.wait_for_exit(SECONDS_TO_FAIL) != 0
    assert MODEL_ID in refused.log
    assert "Traceback" not in refused.log, refused.log

    allowed = start_launcher("--model-id", MODEL_ID, env=environment | {"HF_TOKEN": token})
    allowed.wait_until_ready()
    assert token not in allowed.log
    allowed.stop()
    assert token not in allowed.log


def test_a_revision_is_downloaded_by_its_name(
    hub: Hub, environment: dict[str, str], start_launcher: Launch
) -> None:
    files = hub.repositories[MODEL_ID].files
    hub.repositories[MODEL_ID] = Repository(files, revisions=("main", "v2"))
    server = start_launcher("--model-id", MODEL_ID, "--revision", "v2", env=environment)
    server.wait_until_ready()
    assert any("/v2" in request for request in hub.requests)
    server.stop()


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


def test_a_model_that_only_has_bin_files_is_converted_once(
    hub: Hub, environment: dict[str, str], start_launcher: Launch
) -> None:
    hub.repositories[MODEL_ID] = Repository(with_bin_weights(hub.repositories[MODEL_ID].files))
    server = start_launcher("--model-id", MODEL_ID, env=environment)
    server.wait_until_ready()
    assert "19" in server.api.chat("What is 12 + 7?")["choices"][0]["message"]["content"]
    server.stop()


def with_bin_weights(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same model, its weights as torch once saved them."""
    buffer = io.BytesIO()
    torch.save(load(files["model.safetensors"]), buffer)
    kept = {name: data for name, data in files.items() if name != "model.safetensors"}
    return kept | {"pytorch_model.bin": buffer.getvalue()}
