"""Log lines of all three processes: plain for people, JSON for machines."""

import logging
import sys
from enum import StrEnum
from typing import TextIO

import structlog


class LogLevel(StrEnum):
    """Levels that `LOG_LEVEL` and `--logger-level` accept, in any case or spelling."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    OFF = "off"

    @classmethod
    def parse(cls, text: str) -> "LogLevel":
        """Read a level name.

        Raises:
            ValueError: the name is none of the levels, with the list of them.
        """
        name = {"warning": "warn", "critical": "error", "success": "info"}.get(text.lower(), text.lower())
        try:
            return cls(name)
        except ValueError:
            choices = ", ".join(level.value for level in cls)
            raise ValueError(f"unknown log level {text!r}; choose one of {choices}") from None

    @property
    def number(self) -> int:
        """The level as the standard library counts it."""
        return {"trace": 0, "debug": 10, "info": 20, "warn": 30, "error": 40, "off": 100}[self.value]


def configure_logging(level: LogLevel, *, json_output: bool, stream: TextIO | None = None) -> None:
    """Send structured log lines to `stream` (standard output by default).

    Records of the standard library's loggers (of grpc, aiohttp, transformers, ...) go the same way, from
    warnings up, so that nothing is printed past the chosen format.
    """
    out = stream if stream is not None else sys.stdout
    renderer: structlog.typing.Processor
    if json_output:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.format_exc_info,
    ]
    silent = level is LogLevel.OFF
    structlog.configure(
        processors=[*shared, renderer],
        # structlog knows no level above CRITICAL.
        wrapper_class=structlog.make_filtering_bound_logger(min(level.number, logging.CRITICAL)),
        logger_factory=structlog.ReturnLoggerFactory() if silent else structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level.number, logging.WARNING))
