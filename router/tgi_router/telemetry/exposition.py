"""Metrics as text for a scraper: the Prometheus text format, version 0.0.4.

prometheus_client's own writer appends `_total` to the names of counters in HELP and TYPE lines. TGI's
counters have no such ending and dashboards know them by name, so the text is written here, names as they are.
"""

from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric

from tgi_router.telemetry.instruments import format_number

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(families: Iterable[Metric]) -> bytes:
    """Write metric families, each with its HELP and TYPE lines."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escape_help(family.documentation)}")
        lines.append(f"# TYPE {family.name} {family.type}")
        lines.extend(
            f"{sample.name}{_render_labels(sample.labels)} {format_number(sample.value)}"
            for sample in family.samples
        )
    lines.append("")
    return "\n".join(lines).encode()


def _render_labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape_value(value)}"' for name, value in labels.items()) + "}"


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_value(text: str) -> str:
    return _escape_help(text).replace('"', r"\"")
