"""From options to what is started: the model found, the machine asked, everything checked that can be."""

import sys
from collections.abc import Mapping
from functools import partial
from typing import TextIO

import structlog

from tgi_common.hub import ModelSource, fetch_config_files, local_folder
from tgi_common.logging import LogLevel
from tgi_common.model_files import SAFETENSORS, ModelFilesError, find_weight_files, read_config
from tgi_launcher.deployment import Deployment, choose_num_shard, choose_threads, name_compute_type
from tgi_launcher.machine import count_usable_cores, count_visible_gpus, list_gpus
from tgi_launcher.output import ChildLog, CopiedLog
from tgi_launcher.plan import ProcessPlan, plan_download, plan_router, plan_shards
from tgi_launcher.preflight import (
    bind_address,
    check_port,
    clear_sockets,
    find_free_port,
    resolve,
    shard_sockets,
)
from tgi_launcher.processes import ChildOutput
from tgi_launcher.readiness import router_answers, shard_answers
from tgi_launcher.rules import check_settings
from tgi_launcher.settings import Settings
from tgi_launcher.supervise import Group

_log = structlog.get_logger(__name__)


def prepare(settings: Settings, environment: Mapping[str, str], level: LogLevel, output: TextIO) -> Group:
    """Decide what to start, and hold that it can be.

    Raises:
        SettingsError: options contradict each other.
        ModelFilesError: the model is not there, or its config cannot be read.
        PreflightError: the port or the sockets cannot be used.
    """
    check_settings(settings, environment)
    source = _model_source(settings, environment)
    deployment = deploy(settings, environment, level, source)
    address = _reachable(deployment.address)
    return Group(
        download=plan_download(settings, deployment, environment) if _must_fetch(source) else None,
        shards=plan_shards(settings, deployment, environment),
        router=plan_router(settings, deployment, environment),
        sockets=deployment.sockets,
        url=f"http://{f'[{address}]' if ':' in address else address}:{settings.port}",
        shard_answers=shard_answers,
        router_answers=partial(router_answers, address, settings.port),
        make_output=partial(_make_output, output),
        graceful_seconds=settings.graceful_termination_timeout,
    )


def deploy(
    settings: Settings, environment: Mapping[str, str], level: LogLevel, source: ModelSource
) -> Deployment:
    """Find the model and ask the machine; see `prepare`."""
    model = fetch_config_files(source)
    gpus = list_gpus()
    num_shard = choose_num_shard(settings, count_visible_gpus(len(gpus), environment), read_config(model))
    address = bind_address(settings.hostname, environment)
    check_port(address, settings.port, "--port")
    if num_shard > 1:
        resolve(settings.master_addr or "localhost", "--master-addr")
    if settings.master_port is not None and num_shard > 1:
        check_port("127.0.0.1", settings.master_port, "--master-port")
    deployment = Deployment(
        sockets=tuple(shard_sockets(settings.shard_uds_path, num_shard)),
        master_port=settings.master_port or find_free_port(),
        threads=choose_threads(num_shard, count_usable_cores(), environment),
        address=address,
        log_level=level,
        # Code that comes with a model is fetched by transformers, later.
        offline=local_folder(source) is None and not settings.trust_remote_code,
        compute_type=name_compute_type(num_shard, gpus, environment),
    )
    clear_sockets(deployment.sockets)
    _log.info(
        f"serving {settings.model_id} with {num_shard} shard{'s' if num_shard > 1 else ''}",
        threads_per_shard=deployment.threads or environment["OMP_NUM_THREADS"],
        gpus=len(gpus),
        folder=str(model),
        **({"master_port": deployment.master_port} if num_shard > 1 else {}),
    )
    return deployment


def _model_source(settings: Settings, environment: Mapping[str, str]) -> ModelSource:
    folders = {
        "HUGGINGFACE_HUB_CACHE": settings.huggingface_hub_cache,
        "WEIGHTS_CACHE_OVERRIDE": settings.weights_cache_override,
    }
    chosen = {name: str(folder) for name, folder in folders.items() if folder is not None}
    return ModelSource.from_environment(settings.model_id, settings.revision, {**environment, **chosen})


def _must_fetch(source: ModelSource) -> bool:
    """Whether the download step has anything to do: fetch a Hub model, or convert a local one."""
    folder = source.weights_cache_override or local_folder(source)
    if folder is None or not folder.is_dir():
        return True
    try:
        return not find_weight_files(folder, SAFETENSORS)
    except ModelFilesError:
        return True


def _reachable(address: str) -> str:
    """Where this machine reaches a server that listens on an address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - a name for all addresses


def _make_output(output: TextIO, plan: ProcessPlan) -> ChildOutput:
    if plan.name == "router":
        return CopiedLog(output, sys.stderr)
    return ChildLog(structlog.get_logger("tgi_launcher.output"), plan.rank)
