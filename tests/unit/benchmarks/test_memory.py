"""How much memory processes hold, and how much of it a model must."""

import json
import os
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.memory import kv_bytes_per_token, name_of, read_processes, weight_bytes


def test_each_process_that_is_alive_is_read() -> None:
    gone = psutil.Process()
    gone._pid = 2**22 + 1
    (mine,) = read_processes([gone, psutil.Process()])
    assert mine.peak_resident >= mine.resident >= mine.proportional > 1 << 20
    assert mine.name == name_of(psutil.Process(os.getpid()).cmdline())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/x/bin/python -P -m tgi_shard.cli serve /m", "tgi_shard.cli"),
        ("/x/bin/python3.11 -B /x/bin/vllm serve /m", "vllm"),
        ("/x/llama-server -m /m/model.gguf", "llama-server"),
        ("VLLM::Worker ", "VLLM::Worker"),
        ("python -c import_this", "python -c"),
        ("python", "python"),
        ("", "unknown"),
    ],
)
def test_a_process_is_named_by_what_it_runs_and_never_by_a_path(command: str, expected: str) -> None:
    assert name_of(command.split(" ")) == expected


def test_weights_take_what_their_number_format_takes(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 5, dtype=torch.bfloat16)}, tmp_path / "one.safetensors")
    save_file({"b": torch.zeros(2), "c": torch.zeros(4)}, tmp_path / "two.safetensors")
    assert weight_bytes(tmp_path, "bfloat16") == 21 * 2
    assert weight_bytes(tmp_path, "float32") == 21 * 4


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({}, 2 * 3 * 32),
        ({"num_key_value_heads": 2}, 2 * 3 * 16),
        ({"num_key_value_heads": 2, "head_dim": 10}, 2 * 3 * 20),
    ],
)
def test_a_token_takes_keys_and_values_in_every_layer(
    given: dict[str, int], values: int, tmp_path: Path
) -> None:
    config = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32, **given}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert kv_bytes_per_token(tmp_path, "float16") == 2 * values
