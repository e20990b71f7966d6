"""The command `text-generation-launcher`: options in, a running server out."""

import asyncio
import inspect
import os
import signal
import sys
from typing import Annotated, Any, cast

import structlog
import typer

from tgi_common.logging import LogLevel, configure_logging
from tgi_common.model_files import ModelFilesError
from tgi_common.options import run_command
from tgi_common.version import read_version
from tgi_launcher.machine import report_machine
from tgi_launcher.output import SteadyStream
from tgi_launcher.preflight import PreflightError
from tgi_launcher.prepare import prepare
from tgi_launcher.rules import SettingsError
from tgi_launcher.settings import PROCESS, Settings
from tgi_launcher.supervise import Supervisor

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_log = structlog.get_logger(__name__)


def launch(settings: Settings) -> int:
    """Run a server until it ends; return the exit code."""
    level = _read_log_level()
    output = cast("Any", SteadyStream(sys.stdout))
    configure_logging(level, json_output=settings.json_output, stream=output)
    if settings.env:
        _log.info("Runtime environment:", **report_machine())
    try:
        group = prepare(settings, os.environ, level, output)
    except (SettingsError, ModelFilesError, PreflightError) as error:
        _log.error(str(error))
        return 1
    except OSError as error:  # a path that no file system takes, a file that may not be read
        _log.error(f"cannot start: {error}")
        return 1
    return asyncio.run(Supervisor(group).run())


def _read_log_level() -> LogLevel:
    """LOG_LEVEL; of a filter such as `info,h2=warn`, which TGI takes too, the part that is for all."""
    try:
        return LogLevel.parse(os.environ.get("LOG_LEVEL", "").split(",")[0] or LogLevel.INFO)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="LOG_LEVEL") from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"text-generation-launcher {read_version()}")
        raise typer.Exit


def _command(*, version: bool, **options: Any) -> int:  # noqa: ANN401 - `version` is done by its callback
    return launch(Settings(**options))


def _make_command() -> Any:  # noqa: ANN401 - what typer takes
    """The function that typer reads the options from: those of `Settings`, and `--version`."""
    version = inspect.Parameter(
        "version",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool,
            typer.Option(
                "--version",
                help="Show the version and exit.",
                callback=_print_version,
                is_eager=True,
                rich_help_panel=PROCESS,
            ),
        ],
    )
    parameters = [*inspect.signature(Settings).parameters.values(), version]
    command: Any = _command
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = "Serve a language model over HTTP: starts the shards and the router, and watches them."
    return command


app.command()(_make_command())


def main() -> None:
    """Entry point of `text-generation-launcher`."""
    # Until the supervisor listens for it, Ctrl-C ends the process as SIGTERM does: nothing runs yet,
    # and libraries swallow a KeyboardInterrupt (pydantic does, in compiled code).
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    run_command(app)


if __name__ == "__main__":
    main()
