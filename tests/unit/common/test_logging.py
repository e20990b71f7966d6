import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tgi_common.logging import LogLevel, configure_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(("text", "level"), [("INFO", "info"), ("Warning", "warn"), ("critical", "error")])
def test_levels_are_read_in_any_spelling(text: str, level: str) -> None:
    assert LogLevel.parse(text) == level


def test_an_unknown_level_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'loud'; choose one of trace, debug, info"):
        LogLevel.parse("loud")


def test_json_lines_have_event_level_and_time() -> None:
    out = io.StringIO()
    configure_logging(LogLevel.INFO, json_output=True, stream=out)
    structlog.get_logger().info("ready", port=1)
    logging.getLogger("grpc").warning("careful")
    structlog.get_logger().debug("hidden")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["event"], first["level"], first["port"]) == ("ready", "info", 1)
    assert (second["event"], second["level"]) == ("careful", "warning")
    assert first["timestamp"].endswith("Z")


def test_off_says_nothing() -> None:
    out = io.StringIO()
    configure_logging(LogLevel.OFF, json_output=False, stream=out)
    structlog.get_logger().critical("x")
    logging.getLogger("grpc").critical("x")
    assert out.getvalue() == ""


def test_trace_says_everything() -> None:
    out = io.StringIO()
    configure_logging(LogLevel.TRACE, json_output=False, stream=out)
    structlog.get_logger().debug("details")
    assert "details" in out.getvalue()
