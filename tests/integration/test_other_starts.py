"""Servers beside each other, in containers, with other limits, and with models in other clothes."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support.prompts import chat_prompt
from support.server import Launch, Server
from support.waiting import eventually
from tgi_demo import MODEL_PATH

SUM = chat_prompt("What is 12 + 7?")


@pytest.mark.slow
def test_two_servers_with_other_ports_and_sockets_do_not_meet(server: Server, start_launcher: Launch) -> None:
    other = start_launcher()
    other.wait_until_ready()
    before = server.metrics()["tgi_request_count"]
    assert "19" in other.api.generate(SUM, max_new_tokens=8)["generated_text"]
    assert server.metrics()["tgi_request_count"] == before
    other.stop()
    assert "19" in server.api.generate(SUM, max_new_tokens=8)["generated_text"]


@pytest.mark.slow
def test_a_container_name_in_hostname_does_not_keep_the_server_from_binding(start_launcher: Launch) -> None:
    server = start_launcher(env={"HOSTNAME": "0a1b2c3d4e5f", "NUM_SHARD": "1"})
    server.wait_until_ready()
    eventually(lambda: "Ready" in server.log, "the log says that the server is ready")
    assert "Traceback" not in server.log
    server.stop()


@pytest.mark.slow
def test_limits_that_are_asked_for_are_kept(start_launcher: Launch) -> None:
    options = {
        "MAX_INPUT_LENGTH": "50",
        "MAX_TOTAL_TOKENS": "60",
        "MAX_STOP_SEQUENCES": "1",
        "MAX_TOP_N_TOKENS": "1",
    }
    server = start_launcher("--payload-limit", "1000", "--max-best-of", "1", env=options)
    server.wait_until_ready()
    info = server.api.get("/info").json()
    assert (info["max_input_tokens"], info["max_total_tokens"]) == (50, 60)
    assert server.api.generate("Hello", max_new_tokens=58, stop=["e"])
    for parameters, named in (
        ({"max_new_tokens": 60}, "60"),
        ({"stop": ["a", "b"]}, "stop"),
        ({"top_n_tokens": 2}, "top_n_tokens"),
        ({"best_of": 2, "do_sample": True}, "best_of"),
    ):
        reply = server.api.post("/generate", {"inputs": "Hello", "parameters": parameters})
        assert reply.status == 422, parameters
        assert named in reply.json()["error"]
    # Between the two limits: too long a prompt, though the sum would fit.
    reply = server.api.post("/generate", {"inputs": "1" * 53, "parameters": {"max_new_tokens": 1}})
    assert (reply.status, "50" in reply.json()["error"]) == (422, True), reply.text
    assert server.api.post("/generate", {"inputs": "x" * 1000}).status == 413
    server.stop()


@pytest.mark.slow
def test_a_folder_with_bin_files_only_is_converted_and_served(start_launcher: Launch, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL_PATH, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    server = start_launcher("--model-id", str(folder))
    server.wait_until_ready()
    assert "19" in server.api.generate(SUM, max_new_tokens=8)["generated_text"]
    server.stop()
