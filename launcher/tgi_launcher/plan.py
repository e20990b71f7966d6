"""The command line and the environment of every process, from what was decided."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from tgi_common.api_keys import VARIABLE as API_KEYS
from tgi_common.api_keys import read_api_keys
from tgi_common.options import variable_name
from tgi_common.process import LAUNCHER_PID
from tgi_launcher.deployment import Deployment
from tgi_launcher.settings import Settings


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process to start.

    Attributes:
        name: what log lines call it: `shard 0`, `router`, `download`.
        rank: the shard's rank; None for the others.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    rank: int | None = None


def plan_download(settings: Settings, deployment: Deployment, environment: Mapping[str, str]) -> ProcessPlan:
    """The process that fetches a Hub model's weights, and converts those that are no safetensors."""
    arguments = ["download-weights", settings.model_id, *_shard_log_options(deployment)]
    arguments += _option("--revision", settings.revision)
    own = _model_environment(settings)
    return _process("download", "tgi_shard.cli", arguments, _inherited(environment) | own)


def plan_shards(
    settings: Settings, deployment: Deployment, environment: Mapping[str, str]
) -> list[ProcessPlan]:
    """The shards, by rank."""
    prefix = str(deployment.sockets[0]).removesuffix("-0")
    arguments = ["serve", settings.model_id, "--uds-path", prefix, *_shard_log_options(deployment)]
    arguments += _flag("--sharded", deployment.num_shard > 1)
    arguments += _option("--revision", settings.revision)
    arguments += _option("--dtype", settings.dtype)
    arguments += _option("--quantize", settings.quantize)
    arguments += _flag("--disable-custom-kernels", settings.disable_custom_kernels)
    arguments += _flag("--trust-remote-code", settings.trust_remote_code)
    shared = _inherited(environment) | _model_environment(settings) | _offline(deployment)
    shared |= {
        "WORLD_SIZE": str(deployment.num_shard),
        "MASTER_ADDR": settings.master_addr,
        "MASTER_PORT": str(deployment.master_port),
        "TORCH_NCCL_AVOID_RECORD_STREAMS": "1",
    }
    shared |= _variables(
        OMP_NUM_THREADS=deployment.threads,
        MAX_TOTAL_TOKENS=settings.max_total_tokens,
        CUDA_MEMORY_FRACTION=settings.cuda_memory_fraction,
        ROPE_SCALING=settings.rope_scaling,
        ROPE_FACTOR=settings.rope_factor,
    )
    return [
        _process(f"shard {rank}", "tgi_shard.cli", arguments, shared | {"RANK": str(rank)}, rank)
        for rank in range(deployment.num_shard)
    ]


def plan_router(settings: Settings, deployment: Deployment, environment: Mapping[str, str]) -> ProcessPlan:
    """The router."""
    arguments = _flag("--json-output", settings.json_output)
    arguments += _flag("--trust-remote-code", settings.trust_remote_code)
    arguments += _flag("--protect-metrics", settings.protect_metrics)
    arguments += _flag("--kserve", settings.kserve)
    arguments += _flag("--disable-grammar-support", settings.disable_grammar_support)
    for flag, value in (
        ("--logger-level", deployment.log_level),
        ("--model-id", settings.model_id),
        ("--tokenizer-name", settings.model_id),
        ("--revision", settings.revision),
        ("--tokenizer-config-path", settings.tokenizer_config_path),
        ("--master-shard-uds-path", deployment.sockets[0]),
        ("--hostname", deployment.address),
        ("--port", settings.port),
        ("--max-concurrent-requests", settings.max_concurrent_requests),
        ("--max-best-of", settings.max_best_of),
        ("--max-stop-sequences", settings.max_stop_sequences),
        ("--max-top-n-tokens", settings.max_top_n_tokens),
        ("--max-n", settings.max_n),
        ("--max-messages", settings.max_messages),
        ("--max-tools", settings.max_tools),
        ("--max-logit-bias", settings.max_logit_bias),
        ("--max-grammar-bytes", settings.max_grammar_bytes),
        ("--max-schema-depth", settings.max_schema_depth),
        ("--max-regex-length", settings.max_regex_length),
        ("--tool-call-parser", settings.tool_call_parser),
        ("--reasoning-parser", settings.reasoning_parser),
        ("--max-client-batch-size", settings.max_client_batch_size),
        ("--max-input-tokens", settings.longest_input),
        ("--max-total-tokens", settings.max_total_tokens),
        ("--max-batch-prefill-tokens", settings.max_batch_prefill_tokens),
        ("--max-batch-total-tokens", settings.max_batch_total_tokens),
        ("--max-batch-size", settings.max_batch_size),
        ("--waiting-served-ratio", settings.waiting_served_ratio),
        ("--max-waiting-tokens", settings.max_waiting_tokens),
        ("--validation-workers", settings.validation_workers),
        ("--payload-limit", settings.payload_limit),
        *(("--cors-allow-origin", origin) for origin in settings.cors_allow_origin or ()),
        ("--header-timeout", settings.header_timeout),
        ("--body-timeout", settings.body_timeout),
        ("--write-timeout", settings.write_timeout),
        ("--max-connections", settings.max_connections),
    ):
        arguments += _option(flag, value)
    own = _model_environment(settings) | _offline(deployment)
    own |= _variables(COMPUTE_TYPE=deployment.compute_type)
    if keys := read_api_keys(settings.api_key or [], environment):
        own |= {API_KEYS: ",".join(keys)}  # anyone on the machine can read a command line
    return _process("router", "tgi_router.cli", arguments, _inherited(environment) | own)


def _process(
    name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str], rank: int | None = None
) -> ProcessPlan:
    # The launcher's own interpreter, so that a virtual environment need not be active; -P, so that a file in
    # the working directory is not taken for a module.
    return ProcessPlan(name, (sys.executable, "-P", "-m", module, *arguments), environment, rank)


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """The launcher's environment without its options: each process is given those that it reads."""
    own = {variable_name(field.name) for field in fields(Settings)} | {"LOG_LEVEL"}
    kept = {name: value for name, value in environment.items() if name not in own}
    # A process that was killed is told of in one line of ours, not in lines of gRPC's core.
    kept.setdefault("GRPC_VERBOSITY", "NONE")
    return kept | {
        LAUNCHER_PID: str(os.getpid()),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def _model_environment(settings: Settings) -> dict[str, str]:
    return _variables(
        HUGGINGFACE_HUB_CACHE=settings.huggingface_hub_cache,
        WEIGHTS_CACHE_OVERRIDE=settings.weights_cache_override,
    )


def _offline(deployment: Deployment) -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1"} if deployment.offline else {}


def _shard_log_options(deployment: Deployment) -> list[str]:
    """JSON, whatever the user sees: the launcher reads these lines and writes them with the rank."""
    return ["--logger-level", deployment.log_level, "--json-output"]


def _variables(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _option(flag: str, value: object) -> list[str]:
    return [] if value is None else [flag, str(value)]


def _flag(flag: str, given: bool) -> list[str]:  # noqa: FBT001 - an option that is on or off
    return [flag] if given else []
