import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.main

import tgi_router.cli
import tgi_shard.cli
from tgi_common.choices import Dtype, RopeScaling
from tgi_common.logging import LogLevel
from tgi_common.process import LAUNCHER_PID
from tgi_launcher.deployment import Deployment
from tgi_launcher.plan import ProcessPlan, plan_download, plan_router, plan_shards
from tgi_launcher.settings import Settings

DEPLOYMENT = Deployment(
    sockets=(Path("/run/tgi-0"), Path("/run/tgi-1")),
    master_port=12345,
    threads=3,
    address="127.0.0.1",
    log_level=LogLevel.WARN,
)
ONE_SHARD = replace(DEPLOYMENT, sockets=DEPLOYMENT.sockets[:1])
# Every option that has no default, so that each is handed on.
FULL = Settings(
    model_id="org/model",
    revision="v1",
    dtype=Dtype.FLOAT32,
    trust_remote_code=True,
    disable_grammar_support=True,
    tool_call_parser="hermes",
    reasoning_parser="qwen3",
    tokenizer_config_path=Path("/t.json"),
    rope_scaling=RopeScaling.DYNAMIC,
    rope_factor=2.0,
    huggingface_hub_cache=Path("/cache"),
    weights_cache_override=Path("/weights"),
    cuda_memory_fraction=0.5,
    max_input_length=100,
    max_total_tokens=200,
    max_batch_prefill_tokens=50,
    max_batch_total_tokens=1000,
    max_batch_size=7,
    cors_allow_origin=["http://a", "http://b"],
    api_key=["key-one,key-two", "key-three"],
    protect_metrics=True,
    kserve=True,
    json_output=True,
)
ENVIRONMENT = {"PATH": "/bin", "HF_TOKEN": "hf_secret", "HF_API_TOKEN": "hf_other"}


def options_of(plan: ProcessPlan) -> dict[str, str]:
    """Flags and the values behind them, as far as they have one."""
    arguments = plan.arguments
    return {
        flag: value
        for flag, value in zip(arguments, (*arguments[1:], ""), strict=True)
        if flag.startswith("--")
    }


def parsed(app: typer.Typer, arguments: tuple[str, ...]) -> dict[str, Any]:
    """What a command line means to the process that is started with it."""
    command: Any = typer.main.get_command(app)
    if hasattr(command, "commands"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    parameters: dict[str, Any] = command.make_context("test", list(arguments)).params
    return parameters


def all_plans(settings: Settings, deployment: Deployment = DEPLOYMENT) -> list[ProcessPlan]:
    shards = plan_shards(settings, deployment, ENVIRONMENT)
    others = [maker(settings, deployment, ENVIRONMENT) for maker in (plan_download, plan_router)]
    return [*shards, *others]


def test_processes_run_in_the_launchers_interpreter() -> None:
    for plan in all_plans(FULL):
        assert plan.arguments[:3] == (sys.executable, "-P", "-m")
        assert plan.environment["PATH"] == "/bin"
        assert plan.environment[LAUNCHER_PID] == str(os.getpid())


def test_no_secret_is_on_a_command_line() -> None:
    for plan in all_plans(FULL):
        assert "hf_" not in " ".join(plan.arguments)
        assert plan.environment["HF_TOKEN"] == "hf_secret"


def test_api_keys_reach_the_router_alone_and_by_its_environment() -> None:
    environment = {**ENVIRONMENT, "API_KEY": "key-four"}
    for settings, keys in ((FULL, "key-one,key-two,key-three"), (Settings(), "key-four")):
        plans = [plan_download(settings, DEPLOYMENT, environment)]
        plans += plan_shards(settings, DEPLOYMENT, environment)
        router = plan_router(settings, DEPLOYMENT, environment)
        assert router.environment["API_KEY"] == keys
        assert all("API_KEY" not in plan.environment for plan in plans)
        assert "key-" not in " ".join(argument for plan in [*plans, router] for argument in plan.arguments)
    assert "API_KEY" not in plan_router(Settings(), DEPLOYMENT, ENVIRONMENT).environment


def test_settings_do_not_show_api_keys() -> None:
    assert "key-one" not in repr(FULL)


def test_options_in_the_environment_are_not_inherited() -> None:
    environment = {**ENVIRONMENT, "MAX_INPUT_LENGTH": "5", "PORT": "1", "HOSTNAME": "x", "LOG_LEVEL": "debug"}
    for plan in (
        *plan_shards(Settings(), DEPLOYMENT, environment),
        plan_router(Settings(), DEPLOYMENT, environment),
    ):
        assert not {"MAX_INPUT_LENGTH", "PORT", "HOSTNAME", "LOG_LEVEL"} & plan.environment.keys()


def test_there_is_one_shard_for_each_rank() -> None:
    plans = plan_shards(FULL, DEPLOYMENT, ENVIRONMENT)
    assert [plan.name for plan in plans] == ["shard 0", "shard 1"]
    assert [plan.rank for plan in plans] == [0, 1]
    assert [plan.environment["RANK"] for plan in plans] == ["0", "1"]
    for plan in plans:
        assert plan.environment["WORLD_SIZE"] == "2"
        assert plan.environment["MASTER_ADDR"] == "localhost"
        assert plan.environment["MASTER_PORT"] == "12345"


def test_a_shard_understands_its_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_shards(FULL, DEPLOYMENT, ENVIRONMENT)[1]
    for name, value in plan.environment.items():
        monkeypatch.setenv(name, value)
    given = parsed(tgi_shard.cli.app, plan.arguments[4:])
    assert given == given | {
        "model_id": "org/model",
        "revision": "v1",
        "sharded": True,
        "dtype": "float32",
        "uds_path": Path("/run/tgi"),
        "trust_remote_code": True,
        "logger_level": LogLevel.WARN,
        "json_output": True,
        "rank": 1,
        "world_size": 2,
        "master_addr": "localhost",
        "master_port": 12345,
        "max_total_tokens": 200,
        "memory_fraction": 0.5,
        "rope_scaling": "dynamic",
        "rope_factor": 2.0,
    }
    assert plan.environment["OMP_NUM_THREADS"] == "3"
    assert plan.environment["HUGGINGFACE_HUB_CACHE"] == "/cache"
    assert plan.environment["WEIGHTS_CACHE_OVERRIDE"] == "/weights"


def test_a_single_shard_is_not_sharded() -> None:
    (plan,) = plan_shards(Settings(), ONE_SHARD, ENVIRONMENT)
    assert "--sharded" not in plan.arguments
    assert not {"--dtype", "--revision", "--trust-remote-code"} & set(plan.arguments)
    assert not {"ROPE_SCALING", "ROPE_FACTOR", "CUDA_MEMORY_FRACTION"} & plan.environment.keys()


def test_the_users_number_of_threads_is_left_alone() -> None:
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "9"}
    (plan,) = plan_shards(Settings(), replace(ONE_SHARD, threads=None), environment)
    assert plan.environment["OMP_NUM_THREADS"] == "9"


def test_the_router_understands_its_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_router(FULL, replace(DEPLOYMENT, compute_type="2-t4"), ENVIRONMENT)
    for name, value in plan.environment.items():
        monkeypatch.setenv(name, value)
    assert parsed(tgi_router.cli.app, plan.arguments[4:]) == {
        "model_id": "org/model",
        "tokenizer_name": "org/model",
        "revision": "v1",
        "trust_remote_code": True,
        "tokenizer_config_path": Path("/t.json"),
        "master_shard_uds_path": Path("/run/tgi-0"),
        "hostname": "127.0.0.1",
        "port": 3000,
        "max_concurrent_requests": 128,
        "max_best_of": 2,
        "max_stop_sequences": 4,
        "max_top_n_tokens": 20,
        "max_n": 128,
        "disable_grammar_support": True,
        "tool_call_parser": "hermes",
        "reasoning_parser": "qwen3",
        "max_grammar_bytes": 65_536,
        "max_schema_depth": 64,
        "max_regex_length": 4096,
        "max_messages": 2048,
        "max_tools": 128,
        "max_logit_bias": 1024,
        "max_client_batch_size": 4,
        "max_input_tokens": 100,
        "max_total_tokens": 200,
        "max_batch_prefill_tokens": 50,
        "max_batch_total_tokens": 1000,
        "max_batch_size": 7,
        "waiting_served_ratio": 0.3,
        "max_waiting_tokens": 20,
        "validation_workers": 2,
        "payload_limit": 2_000_000,
        "cors_allow_origin": ["http://a", "http://b"],
        "api_key": (),
        "protect_metrics": True,
        "kserve": True,
        "header_timeout": 30.0,
        "body_timeout": 60.0,
        "write_timeout": 60.0,
        "max_connections": 4096,
        "aip_health_route": None,
        "aip_predict_route": None,
        "json_output": True,
        "logger_level": LogLevel.WARN,
        "compute_type": "2-t4",
    }


def test_what_was_not_asked_for_is_left_to_the_router() -> None:
    options = options_of(plan_router(Settings(), DEPLOYMENT, ENVIRONMENT))
    assert (
        not {
            "--max-input-tokens",
            "--max-total-tokens",
            "--max-batch-prefill-tokens",
            "--max-batch-total-tokens",
            "--max-batch-size",
            "--json-output",
            "--revision",
        }
        & options.keys()
    )


def test_the_download_understands_its_command_line() -> None:
    plan = plan_download(FULL, DEPLOYMENT, ENVIRONMENT)
    assert plan.arguments[4] == "download-weights"
    given = parsed(tgi_shard.cli.app, plan.arguments[4:])
    assert given == given | {"model_id": "org/model", "revision": "v1", "json_output": True}
    assert plan.rank is None


def test_after_the_download_nobody_asks_the_hub_again() -> None:
    deployment = replace(DEPLOYMENT, offline=True)
    for plan in (*plan_shards(FULL, deployment, {}), plan_router(FULL, deployment, {})):
        assert plan.environment["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in plan_download(FULL, deployment, {}).environment
