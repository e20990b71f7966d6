"""The command line: `python -m benchmarks` measures servers, its `quality` models with quantized weights."""

import random
import re
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.bench import record_benchmark
from benchmarks.cases import CASES, DEFAULT_CASES
from benchmarks.load import Target
from benchmarks.report import save_report
from benchmarks.rounds import Plan, count_errors
from benchmarks.servers import PEERS
from benchmarks.servers.base import Server, ServerFailedError
from benchmarks.servers.http import RunningServer
from benchmarks.servers.tgi import make_tgi
from benchmarks.shapes import SHAPES
from tgi_demo import MODEL_PATH

_HERE = Path(__file__).parent
_DEMO = "tgi-demo"
_EXAMINED = (_DEMO, "135M")
_DTYPES = ("bfloat16", "float16", "float32")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def main() -> None:
    """Run the command line; what goes wrong is told in a line, without a traceback."""
    try:
        app()
    except (ServerFailedError, FileExistsError) as error:
        sys.exit(f"error: {error}")


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(help=f"{', '.join(SHAPES)} (random weights), {_DEMO}, or a model's folder.")
    ] = "135M",
    case: Annotated[
        list[str] | None,
        typer.Option(help=f"Repeatable: {', '.join(CASES)}.", show_default=", ".join(DEFAULT_CASES)),
    ] = None,
    peer: Annotated[list[str] | None, typer.Option(help=f"To measure beside it: {', '.join(PEERS)}.")] = None,
    url: Annotated[
        str | None, typer.Option(help="A running server to measure beside it, at a loopback address.")
    ] = None,
    url_model: Annotated[str, typer.Option(help="What the server at --url calls the model.")] = "tgi",
    rounds: Annotated[int, typer.Option(min=1, help="How often each server is started and measured.")] = 3,
    dtype: Annotated[str, typer.Option(help=f"Number format: {', '.join(_DTYPES)}.")] = "bfloat16",
    launcher_options: Annotated[str, typer.Option(help="More options for this server's launcher.")] = "",
    seed: Annotated[
        int | None, typer.Option(help="What prompts are drawn with.", show_default="another each time")
    ] = None,
    checkpoints: Annotated[Path, typer.Option(help="Where random checkpoints are kept.")] = _HERE / ".cache",
    results: Annotated[Path, typer.Option(help="Where the record is kept.")] = _HERE / "results",
    name: Annotated[str | None, typer.Option(help="Name of the record.", show_default="the model's")] = None,
) -> None:
    """Start this server, and each peer named, in turn; send all the same work; write down what came of it."""
    if context.invoked_subcommand is not None:
        return
    _expect("--dtype", [dtype], _DTYPES)
    _expect("--case", case or (), CASES)
    _expect("--peer", peer or (), PEERS)
    servers: list[Server] = [make_tgi(tuple(shlex.split(launcher_options)))]
    servers += [PEERS[each]() for each in peer or ()]
    if url is not None:
        servers.append(_running_server(url, url_model))
    plan = Plan(
        servers=tuple(servers),
        cases=tuple(CASES[each] for each in case or DEFAULT_CASES),
        rounds=rounds,
        checkpoint=_find_checkpoint(model, checkpoints),
        dtype=dtype,
        seed=random.randrange(2**32) if seed is None else seed,
    )
    # A folder's name, not its path: the record is for others to read.
    model_name = Path(model).resolve().name if model not in SHAPES else model
    record = record_benchmark(plan, model_name, _file_name(name or model_name))
    print(save_report(record, results).read_text())
    if errors := count_errors(record.rounds):
        sys.exit(f"error: {errors} requests failed: the figures do not count")


@app.command()
def make_checkpoint(
    shape: Annotated[str, typer.Argument(help=f"One of {', '.join(SHAPES)}.")],
    folder: Annotated[Path, typer.Argument(help="Where to put it; made if it does not exist.")],
) -> None:
    """Make a checkpoint with random weights, of a named shape, and a tokenizer that fits it."""
    _expect("shape", [shape], SHAPES)
    print(_ensure_checkpoint(shape, folder))


@app.command()
def quality(
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"Repeatable: {', '.join(_EXAMINED)}.", show_default=", ".join(_EXAMINED)),
    ] = None,
    seed: Annotated[int, typer.Option(help="What texts are drawn with.")] = 2_000_000,
    checkpoints: Annotated[Path, typer.Option(help="Where random checkpoints are kept.")] = _HERE / ".cache",
    results: Annotated[Path, typer.Option(help="Where the record is kept.")] = _HERE / "results",
    name: Annotated[str, typer.Option(help="Name of the record.")] = "quality",
) -> None:
    """Compare models with quantized weights to themselves in float32, without a server."""
    # Imports the shard, which benchmarks of servers must not.
    from benchmarks.quality.measure import record_quality
    from benchmarks.quality.report import save_report as save_quality
    from benchmarks.quality.texts import demo_exam, random_exam
    from tgi_shard.cli import cache_folder

    _expect("--model", model or (), _EXAMINED)
    exams = [
        demo_exam(seed) if each == _DEMO else random_exam(each, _find_checkpoint(each, checkpoints), seed)
        for each in model or _EXAMINED
    ]
    record = record_quality(exams, seed, _file_name(name), cache_folder("kernels"))
    print(save_quality(record, results).read_text())


def _expect(option: str, given: Collection[str], known: Collection[str]) -> None:
    for each in given:
        if each not in known:
            raise typer.BadParameter(f"{option} {each}: there is only {', '.join(known)}")


def _running_server(url: str, model: str) -> RunningServer:
    try:
        return RunningServer(Target(url.rstrip("/"), model))
    except ValueError as error:
        raise typer.BadParameter(f"--url: {error}") from None


def _find_checkpoint(model: str, cache: Path) -> Path:
    if model in SHAPES:
        return _ensure_checkpoint(model, cache / model)
    folder = MODEL_PATH if model == _DEMO else Path(model)
    if not (folder / "tokenizer.json").is_file():
        raise typer.BadParameter(
            f"--model {model}: neither {', '.join(SHAPES)}, {_DEMO}, nor a folder with a tokenizer.json"
        )
    return folder.resolve()


def _ensure_checkpoint(shape: str, folder: Path) -> Path:
    # Imports torch, which a benchmark of a model that exists does not need.
    from benchmarks.checkpoint import ensure_checkpoint

    return ensure_checkpoint(SHAPES[shape], folder.resolve())


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
