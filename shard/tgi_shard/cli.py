"""The command `text-generation-server`: serve a model, or get its weights ready."""

import os
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from tgi_common.choices import Dtype, Quantization, RopeScaling
from tgi_common.hub import ModelSource
from tgi_common.logging import LogLevel, configure_logging
from tgi_common.options import run_command, run_or_exit
from tgi_common.process import die_with_parent
from tgi_common.progress import log_progress
from tgi_shard.settings import RopeOverride, ServeSettings

app = typer.Typer(
    help="The model process of the text-generation inference server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
log = structlog.get_logger(__name__)


ModelId = Annotated[str, typer.Argument(help="A folder, a Hub id, or `tgi-demo`.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub model.")]
Level = Annotated[
    LogLevel, typer.Option(parser=LogLevel.parse, metavar="LEVEL", help="The least level logged.")
]
JsonOutput = Annotated[bool, typer.Option(help="Write log lines as JSON.")]


@app.command()
def serve(
    model_id: ModelId,
    revision: Revision = None,
    sharded: Annotated[
        bool, typer.Option(help="Be rank RANK of WORLD_SIZE, as the environment says.")
    ] = False,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Type of the weights; the checkpoint's if not given.")
    ] = None,
    quantize: Annotated[
        Quantization | None,
        typer.Option(help="Keep the weights in 8 or 4 bits; on CPUs, for any checkpoint."),
    ] = None,
    uds_path: Annotated[Path, typer.Option(help="Prefix of the Unix socket; `-RANK` is appended.")] = Path(
        "/tmp/text-generation-server"
    ),
    trust_remote_code: Annotated[
        bool, typer.Option(help="Run tokenizer code that comes with the model.")
    ] = False,
    disable_custom_kernels: Annotated[
        bool,
        typer.Option(help="Compute with torch's operations alone: slower."),
    ] = False,
    logger_level: Level = LogLevel.INFO,
    json_output: JsonOutput = False,
    rank: Annotated[int, typer.Option(envvar="RANK", hidden=True, min=0)] = 0,
    world_size: Annotated[int, typer.Option(envvar="WORLD_SIZE", hidden=True, min=1)] = 1,
    master_addr: Annotated[str, typer.Option(envvar="MASTER_ADDR", hidden=True)] = "localhost",
    master_port: Annotated[int, typer.Option(envvar="MASTER_PORT", hidden=True)] = 29500,
    memory_fraction: Annotated[
        float | None,
        typer.Option(
            envvar="CUDA_MEMORY_FRACTION",
            min=0.01,
            max=1.0,
            help="Part of the free memory that the KV cache takes.",
        ),
    ] = None,
    max_total_tokens: Annotated[
        int | None, typer.Option(envvar="MAX_TOTAL_TOKENS", min=2, help="The longest prompt with its answer.")
    ] = None,
    rope_scaling: Annotated[RopeScaling | None, typer.Option(envvar="ROPE_SCALING", hidden=True)] = None,
    rope_factor: Annotated[float | None, typer.Option(envvar="ROPE_FACTOR", hidden=True, min=1.0)] = None,
) -> None:
    """Serve a model on a Unix socket until SIGTERM."""
    die_with_parent()
    configure_logging(logger_level, json_output=json_output)
    if rank >= world_size:
        raise typer.BadParameter(f"RANK is {rank}; it must be below WORLD_SIZE, which is {world_size}")
    rope = None
    if rope_scaling is not None or rope_factor is not None:
        rope = RopeOverride(rope_scaling or RopeScaling.LINEAR, rope_factor or 1.0)
    settings = ServeSettings(
        source=ModelSource.from_environment(model_id, revision, os.environ),
        rank=rank if sharded else 0,
        world_size=world_size if sharded else 1,
        master_addr=master_addr,
        master_port=master_port,
        uds_path=str(uds_path),
        dtype=dtype,
        quantize=quantize,
        max_total_tokens=max_total_tokens,
        memory_fraction=memory_fraction,
        rope=rope,
        kernel_cache=None if disable_custom_kernels else cache_folder("kernels"),
        converted_weights=cache_folder("converted"),
        trust_remote_code=trust_remote_code,
    )
    run_or_exit(lambda: serve_until_stopped(settings), logger_level)


@app.command()
def download_weights(
    model_id: ModelId,
    revision: Revision = None,
    logger_level: Level = LogLevel.INFO,
    json_output: JsonOutput = False,
) -> None:
    """Fetch a model's weights from the Hub, and convert them to safetensors if they are not."""
    die_with_parent()
    configure_logging(logger_level, json_output=json_output)

    def download() -> None:
        from tgi_shard.weights.download import prepare_weights

        source = ModelSource.from_environment(model_id, revision, os.environ)
        progress = None if sys.stderr.isatty() and not json_output else log_progress(log)
        folder = prepare_weights(source, cache_folder("converted"), progress)
        log.info("weights are ready", folder=str(folder))

    run_or_exit(download, logger_level)


def serve_until_stopped(settings: ServeSettings) -> None:
    """Load the model, then answer calls."""
    # Imported here, since torch takes seconds that `--help` and a wrong option need not.
    from tgi_shard.service.server import serve, socket_url
    from tgi_shard.startup import build_service

    service = build_service(settings)
    try:
        # asyncio's own loop is woken by a write, for which the engine's thread gives the interpreter away: it
        # would begin its next step only after the answer to this one is written.
        uvloop.run(serve(service, socket_url(settings.uds_path, settings.rank)))
    finally:
        service.close()


def cache_folder(content: str) -> Path:
    """Where things are kept that can be made again: "kernels", "converted" checkpoints."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "text-generation-inference" / content


def main() -> None:
    """Entry point of `text-generation-server`."""
    run_command(app)


if __name__ == "__main__":
    main()
