"""Keeps a benchmark: JSON for programs, Markdown and a plot for people, under one name."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.plot import save_plot
from benchmarks.record import Record
from benchmarks.summary import compare, summarize
from benchmarks.table import render_table


def save_report(record: Record, folder: Path) -> Path:
    """Write `<date>-<name>`.json, .md and .png, over earlier ones of that name; answer the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{record.date[:10]}-{record.name}"
    json_text = msgspec.json.format(msgspec.json.encode(_with_summary(record)), indent=2)
    (folder / f"{stem}.json").write_bytes(json_text + b"\n")
    save_plot(record, folder / f"{stem}.png")
    page = folder / f"{stem}.md"
    page.write_text(render_table(record))
    return page


def _with_summary(record: Record) -> dict[str, Any]:
    """Put the figures that a reader looks for beside the rounds that they are made of; NaN becomes null."""
    server, *peers = record.servers
    cases = [case.name for case in record.cases]
    return {
        **{field.name: getattr(record, field.name) for field in fields(record)},
        "summary": [summarize(record.rounds, name, case) for case in cases for name in record.servers],
        "comparisons": [compare(record.rounds, server, peer, case) for peer in peers for case in cases],
    }
