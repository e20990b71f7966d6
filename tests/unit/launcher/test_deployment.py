from typing import Any

import pytest

from tgi_launcher.deployment import choose_num_shard, choose_threads, name_compute_type
from tgi_launcher.rules import SettingsError, check_settings
from tgi_launcher.settings import Settings

HEADS = {"num_attention_heads": 32, "num_key_value_heads": 8}


def chosen(gpus: int = 0, config: dict[str, Any] | None = None, **options: Any) -> int:
    return choose_num_shard(Settings(**options), gpus, HEADS if config is None else config)


def test_without_gpus_there_is_one_shard() -> None:
    assert chosen() == 1


def test_each_visible_gpu_gets_a_shard() -> None:
    assert chosen(gpus=4) == 4
    assert chosen(gpus=4, sharded="true") == 4


def test_gpus_that_the_heads_cannot_be_spread_over_are_left_out() -> None:
    assert chosen(gpus=8, config={"num_attention_heads": 6, "num_key_value_heads": 2}) == 2
    assert chosen(gpus=3) == 2
    assert chosen(gpus=8, config={"num_attention_heads": 7}) == 7


def test_a_number_that_is_asked_for_is_taken() -> None:
    assert chosen(num_shard=16) == 16
    assert chosen(num_shard=3, config={}) == 3
    assert chosen(num_shard=2, sharded="true") == 2
    assert chosen(gpus=4, num_shard=1) == 1


def test_sharded_false_is_one_shard_however_many_gpus() -> None:
    assert chosen(gpus=4, sharded="false") == 1
    assert chosen(gpus=4, sharded="false", num_shard=1) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sharded": "false", "num_shard": 2}, "--sharded false contradicts --num-shard 2"),
        ({"sharded": "true", "num_shard": 1}, "--sharded true contradicts --num-shard 1"),
        ({"sharded": "true"}, "--sharded true needs --num-shard, since 0 GPUs are visible"),
        ({"sharded": "true", "gpus": 1}, "since 1 GPUs are visible"),
        (
            {"num_shard": 1000},
            "--num-shard 1000 does not divide the model's num_attention_heads, which is 32",
        ),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        chosen(**options)


def test_cores_are_divided_between_the_shards() -> None:
    assert choose_threads(2, 9, {}) == 4
    assert choose_threads(4, 2, {}) == 1
    assert choose_threads(1, 9, {"OMP_NUM_THREADS": "3"}) is None


def test_the_compute_type_is_written_as_tgi_does() -> None:
    assert name_compute_type(2, ["NVIDIA A100-SXM4-80GB"] * 2, {}) == "2-nvidia-a100-sxm4-80gb"
    assert name_compute_type(1, ["NVIDIA H100 80GB HBM3"], {}) == "1-nvidia-h100-80gb-hbm3"
    assert name_compute_type(1, [], {}) is None
    assert name_compute_type(1, ["T4"], {"COMPUTE_TYPE": "mine"}) == "mine"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_input_tokens": 5, "max_input_length": 5}, "mean the same"),
        ({"max_input_tokens": 5, "max_total_tokens": 5}, r"--max-input-tokens \(5\) must be below"),
        ({"max_input_length": 6, "max_total_tokens": 5}, r"\(6\) must be below --max-total-tokens \(5\)"),
        ({"max_total_tokens": 9, "max_batch_total_tokens": 8}, r"\(9\) must not exceed .* \(8\)"),
        ({"port": 4000, "master_port": 4000}, "--port and --master-port are both 4000"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        check_settings(Settings(**options), {})


def test_limits_that_fit_are_accepted() -> None:
    check_settings(Settings(max_input_tokens=4, max_total_tokens=5, max_batch_total_tokens=5), {})
    assert Settings(max_input_length=4).longest_input == 4


@pytest.mark.parametrize("name", ["SPECULATE", "LORA_ADAPTERS"])
def test_a_variable_that_changes_what_is_served_is_not_passed_over(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is set, but this version has no --"):
        check_settings(Settings(), {name: "x"})
    check_settings(Settings(), {name: ""})
