"""Keeps a comparison of quantized models: JSON for programs, Markdown for people, under one name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import msgspec

from benchmarks.quality.record import QualityRecord, VariantFigures

_COLUMNS: dict[str, Callable[[VariantFigures], str]] = {
    "model": lambda row: row.model,
    "weights": lambda row: row.variant,
    "bits": lambda row: f"{row.bits_a_weight:.2f}",
    "weight error": lambda row: f"{row.weight_error:.2%}",
    "logit error": lambda row: f"{row.logits.relative_difference:.2%}",
    "mean Δ": lambda row: f"{row.logits.mean_difference:.4f}",
    "largest Δ": lambda row: f"{row.logits.largest_difference:.2f}",
    "KL": lambda row: f"{row.logits.divergence:.2g}",
    "same likeliest": lambda row: f"{row.logits.same_likeliest:.2%}",
    "same texts": lambda row: f"{row.texts.same_texts:.1%}",
    "same beginning": lambda row: f"{row.texts.same_beginning:.1%}",
    "same tokens": lambda row: f"{row.texts.same_tokens:.1%}",
}


def save_report(record: QualityRecord, folder: Path) -> Path:
    """Write `<date>-<name>`.json and .md, over earlier ones of that name; answer the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{record.date[:10]}-{record.name}"
    json_text = msgspec.json.format(msgspec.json.encode(asdict(record)), indent=2)
    (folder / f"{stem}.json").write_bytes(json_text + b"\n")
    page = folder / f"{stem}.md"
    page.write_text(render_page(record))
    return page


def render_page(record: QualityRecord) -> str:
    """Write the page of a comparison."""
    parts = [
        f"# Quality of quantized weights, {record.date[:10]}",
        "\n".join(_conditions(record)),
        "Each model beside itself in float32. Bits: of a weight in the matrices, scales included. Weight "
        "error: root mean square, of that of the weights. Logit error: root mean square of the differences "
        "(Δ), of the standard deviation of a token's logits. KL: divergence from float32's distribution, in "
        "nats a token. Same likeliest: tokens at which both would choose the same next one, told the same "
        "text. Then the greedy texts: those that are the same throughout, the part of a text before the "
        "first difference, and tokens that are the same in their places.",
        "\n".join(_markdown(_COLUMNS, ([show(row) for show in _COLUMNS.values()] for row in record.figures))),
        *_right_answers(record),
    ]
    return "\n\n".join(parts) + "\n"


def _conditions(record: QualityRecord) -> Iterator[str]:
    machine = record.machine
    yield f"- Machine: {machine.cpu}; {machine.system}, Python {machine.python}"
    if record.revision is not None:
        changed = record.revision.changed_files
        yield f"- Source: {record.revision.commit[:12]}" + (
            f" with {changed} changed files" if changed else ""
        )
    yield "- Versions: " + ", ".join(f"{name} {version}" for name, version in record.versions.items())
    for model, tasks in record.questions.items():
        tokens = next(row.logits.tokens for row in record.figures if row.model == model)
        yield f"- {model}: {sum(tasks.values())} texts, {tokens:,} tokens compared"


def _right_answers(record: QualityRecord) -> Iterator[str]:
    """A table for each model that gives right answers: a row for each task."""
    for model, tasks in record.questions.items():
        graded = [row for row in record.figures if row.model == model and row.right]
        if not graded:
            continue
        rows = [
            [task, str(count), *(f"{row.right[task]:.1%}" for row in graded)] for task, count in tasks.items()
        ]
        total = [
            sum(row.right[task] * count for task, count in tasks.items()) / sum(tasks.values())
            for row in graded
        ]
        rows.append(["all", str(sum(tasks.values())), *(f"{share:.1%}" for share in total)])
        yield f"Right answers of {model}, greedy, to the last token:"
        yield "\n".join(_markdown(["task", "questions", *(row.variant for row in graded)], rows))


def _markdown(head: Iterable[str], rows: Iterable[list[str]]) -> Iterator[str]:
    names = list(head)
    for line in (names, ["---"] * len(names), *rows):
        yield f"| {' | '.join(line)} |"
