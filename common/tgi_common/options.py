"""Command-line options as TGI has them: each with its environment variable, errors in one line."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
import typer

from tgi_common.logging import LogLevel

# click's exceptions, by way of typer, which carries click along under another name in newer versions.
_USAGE_ERROR: Any = typer.BadParameter.__base__
_CLICK_ERROR: Any = _USAGE_ERROR.__base__

TOKENS_LIMIT = 2**24
"""Most tokens that an option may ask for: beyond any model's context, still a message that fits memory."""

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}


_log = structlog.get_logger(__name__)


def variable_name(flag: str) -> str:
    """Environment variable of an option: `--max-total-tokens` is MAX_TOTAL_TOKENS."""
    return flag.removeprefix("--").replace("-", "_").upper()


def option(
    flag: str,
    *short: str,
    help: str,  # noqa: A002 - typer's own name
    before: Sequence[str] = (),
    **rest: Any,  # noqa: ANN401 - what typer takes
) -> Any:  # noqa: ANN401 - what typer gives
    """A `typer.Option` that its environment variable sets too.

    Args:
        flag: its name, from which its variable has its own.
        short: other names.
        help: what it does.
        before: variables that are read first.
        rest: goes to typer.
    """
    own = variable_name(flag)
    return typer.Option(flag, *short, help=help, envvar=[*before, own] if before else own, **rest)


def parse_boolean(flag: str, value: str) -> bool:
    """The value of an option that takes true or false, as people write them (TGI takes just these words).

    Raises:
        typer.BadParameter: it is neither.
    """
    word = value.strip().lower()
    if word not in _TRUE | _FALSE:
        raise typer.BadParameter(f"{value!r} is neither true nor false", param_hint=repr(flag))
    return word in _TRUE


def run_command(app: typer.Typer) -> None:
    """Run a command line and exit; a wrong option is told in one line on standard error, with exit code 2."""
    try:
        code = app(standalone_mode=False)
    except _CLICK_ERROR as error:
        print(f"error: {_describe(error, sys.argv[1:], os.environ)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def run_or_exit(command: Callable[[], None], level: LogLevel) -> None:
    """Run a command; an error becomes one log line (its traceback only from DEBUG down) and exit code 1."""
    try:
        command()
    except Exception as error:
        text = str(error) or type(error).__name__
        expected = type(error).__module__.startswith("tgi_")
        _log.error(
            text if expected else f"{type(error).__name__}: {text}",
            exc_info=level.number <= LogLevel.DEBUG.number,
        )
        raise typer.Exit(1) from None


def _describe(error: Any, arguments: Sequence[str], environment: Mapping[str, str]) -> str:  # noqa: ANN401
    """The message, with the value it is about (typer's own words leave it out)."""
    message: str = error.format_message().replace("Value error, ", "").split(", unable to parse")[0]
    message = message.replace("Input should be", "it must be")
    value = _given_value(getattr(error, "param", None), arguments, environment)
    return message if value is None or repr(value) in message else f"{message.rstrip('.')}, not {value!r}"


def _given_value(
    parameter: Any,  # noqa: ANN401 - click's
    arguments: Sequence[str],
    environment: Mapping[str, str],
) -> str | None:
    flags = getattr(parameter, "opts", [])
    for number in reversed(range(len(arguments))):  # of an option given twice, the last one counts
        flag, equals, value = arguments[number].partition("=")
        if flag in flags:
            return value if equals else next(iter(arguments[number + 1 :]), None)
    variables = getattr(parameter, "envvar", None) or []
    names = [variables] if isinstance(variables, str) else variables
    return next((environment[name] for name in names if environment.get(name)), None)
