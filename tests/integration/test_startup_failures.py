"""A server that cannot start says why in its last lines, soon, and leaves nothing behind."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from support.server import Launch, Server
from tgi_demo import MODEL_PATH

SECONDS_TO_FAIL = 20.0
LAST_LINES = 4


def fails(server: Server, *words: str, code: int | None = None) -> None:
    """The launcher ends by itself with an error, its last lines name the cause, and nothing is left."""
    exit_code = server.wait_for_exit(SECONDS_TO_FAIL)
    assert exit_code != 0, server.log
    if code is not None:
        assert exit_code == code, server.log
    last = "\n".join(server.log.strip().splitlines()[-LAST_LINES:])
    for word in words:
        assert word in last, f"{word!r} is not in the last lines:\n{server.log}"
    assert "Traceback" not in server.log, server.log
    server.assert_nothing_left()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--no-such-option", "3"], ["--no-such-option"]),
        (["--dtype", "int3"], ["int3", "float16", "bfloat16", "float32"]),
        (["--quantize", "gptq"], ["gptq", "int8", "int4", "eetq", "bitsandbytes-nf4"]),
        (["--max-concurrent-requests", "many"], ["max-concurrent-requests", "many"]),
        (["--num-shard", "two"], ["num-shard", "two"]),
        (["surplus"], ["surplus"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_option_ends_with_2(start_launcher: Launch, options: list[str], words: list[str]) -> None:
    fails(start_launcher(*options), *words, code=2)


@pytest.mark.parametrize(
    ("name", "value"), [("MAX_CONCURRENT_REQUESTS", "many"), ("DTYPE", "int3"), ("JSON_OUTPUT", "perhaps")]
)
def test_a_malformed_environment_variable_ends_with_2(start_launcher: Launch, name: str, value: str) -> None:
    fails(start_launcher(env={name: value}), value, code=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--max-input-tokens", "100", "--max-total-tokens", "100"],
            ["max-input-tokens", "max-total-tokens"],
        ),
        (
            ["--max-input-tokens", "100", "--max-input-length", "100"],
            ["max-input-tokens", "max-input-length"],
        ),
        (["--validation-workers", "0"], ["validation-workers"]),
        (["--num-shard", "0"], ["num-shard"]),
        (["--max-total-tokens", "200", "--max-batch-total-tokens", "100"], ["max-batch-total-tokens"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_options_that_contradict_each_other_are_refused(
    start_launcher: Launch, options: list[str], words: list[str]
) -> None:
    server = start_launcher(*options)
    exit_code = server.wait_for_exit(SECONDS_TO_FAIL)
    assert exit_code != 0, server.log
    said = server.log.lower().replace("_", "-").replace("`", "")
    assert all(word in said for word in words), server.log
    assert "Traceback" not in server.log, server.log
    server.assert_nothing_left()


def test_a_port_in_use_is_named(start_launcher: Launch) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        fails(start_launcher(port=port), str(port))


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder", "not a model id"])
def test_a_missing_model_is_named(start_launcher: Launch, name: str) -> None:
    fails(start_launcher("--model-id", name, env={"HF_HUB_OFFLINE": "1"}), name)


def cut_in_half(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def overwrite_the_header(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\xff" * 64 + weights.read_bytes()[64:])


def empty_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def name_another_type(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "oddball"}))


def break_the_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama", ')


def remove_the_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def remove_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def remove_the_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def widen_the_model(folder: Path) -> None:
    """The weights are then not of the shape that the config asks for."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"intermediate_size": 2 * config["intermediate_size"]})
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_in_half, ["model.safetensors"]),
        (overwrite_the_header, ["model.safetensors"]),
        (empty_the_weights, ["model.safetensors"]),
        (name_another_type, ["oddball", "llama"]),
        (break_the_config, ["config.json"]),
        (remove_the_config, ["config.json"]),
        (remove_the_weights, ["safetensors"]),
        (remove_the_tokenizer, ["tokenizer.json"]),
        (widen_the_model, ["shape"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_damaged_model_folder_is_explained(
    start_launcher: Launch, tmp_path: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL_PATH, folder)
    damage(folder)
    fails(start_launcher("--model-id", str(folder)), *words)


@pytest.mark.slow
def test_a_damaged_model_is_explained_by_two_shards_too(start_launcher: Launch, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL_PATH, folder)
    cut_in_half(folder)
    fails(start_launcher("--model-id", str(folder), "--num-shard", "2"), "model.safetensors")


@pytest.mark.slow
def test_more_shards_than_the_heads_divide_by_is_explained(start_launcher: Launch) -> None:
    fails(start_launcher("--num-shard", "4"), "head")


def test_sockets_that_cannot_be_made_are_explained(start_launcher: Launch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    fails(start_launcher(uds_path=blocked / "shard"), str(blocked))


def test_a_socket_path_too_long_for_the_system_is_explained(start_launcher: Launch, tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    fails(start_launcher(uds_path=folder / "shard"), "shard")


def test_sockets_of_a_running_server_are_left_alone(server: Server, start_launcher: Launch) -> None:
    other = start_launcher(uds_path=server.uds_path)
    assert other.wait_for_exit(SECONDS_TO_FAIL) != 0
    assert str(server.uds_path) in other.log
    assert "Traceback" not in other.log, other.log
    assert server.api.generate("Hello", max_new_tokens=2)["generated_text"] is not None
    assert server.left_sockets()


def test_limits_beyond_the_model_are_refused(start_launcher: Launch) -> None:
    fails(start_launcher("--max-input-tokens", "100000", "--max-total-tokens", "100001"), "2048")


def test_version_and_help_are_printed_and_start_nothing(start_launcher: Launch) -> None:
    for option, word in (("--version", "4."), ("--help", "--num-shard")):
        server = start_launcher(option)
        assert server.wait_for_exit(SECONDS_TO_FAIL) == 0
        assert word in server.log
        server.assert_nothing_left()
