"""The command `python -m benchmarks.router`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.router.load import LoadError
from benchmarks.router.measure import record_router
from benchmarks.router.record import CASES
from benchmarks.router.report import save_report
from benchmarks.servers.base import ServerFailedError


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each case is measured on each route.")] = 3,
    results: Annotated[Path, typer.Option(help="Where the record is kept.")] = Path(__file__).parents[1]
    / "results",
    name: Annotated[str, typer.Option(help="Name of the record.")] = "router",
) -> None:
    """Measure how fast the router is, and what it adds to a token's way, over a shard without a model."""
    try:
        record = record_router(CASES, rounds, name)
    except (ServerFailedError, LoadError) as error:
        sys.exit(f"error: {error}")
    print(save_report(record, results).read_text())


if __name__ == "__main__":
    typer.run(main)
