"""Compares a model with quantized weights to itself in float32, without a server."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import describe_machine, describe_revision, package_versions
from benchmarks.quality.compare import LogitComparison, compare_texts
from benchmarks.quality.model import LoadedModel, Variant
from benchmarks.quality.record import QualityRecord, VariantFigures
from benchmarks.quality.texts import Exam, Text
from tgi_common.choices import Quantization

_REFERENCE = Variant("float32", torch.float32, None, kernels=None)


def record_quality(exams: Sequence[Exam], seed: int, name: str, kernels: Path | None) -> QualityRecord:
    """Run every variant on every exam, and answer the record.

    Args:
        exams: what models are asked.
        seed: what its texts were drawn with, for the record.
        name: of the record.
        kernels: where compiled kernels are kept; None to compute by torch alone.
    """
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    variants = [Variant("bfloat16", torch.bfloat16, None, kernels)]
    variants += [
        Variant(each.value, torch.bfloat16, each, kernels) for each in (Quantization.INT8, Quantization.INT4)
    ]
    return QualityRecord(
        name=name,
        date=begun,
        seed=seed,
        machine=describe_machine(),
        revision=describe_revision(Path(__file__).parent),
        versions=package_versions(("text-generation-inference", "torch", "transformers", "tokenizers")),
        questions={exam.model: {task: len(texts) for task, texts in exam.texts.items()} for exam in exams},
        figures=tuple(chain.from_iterable(examine(exam, variants) for exam in exams)),
    )


@torch.inference_mode()
def examine(exam: Exam, variants: Sequence[Variant]) -> Iterator[VariantFigures]:
    """Run variants of a model, one after the other, beside the reference."""
    texts = list(chain.from_iterable(exam.texts.values()))
    longest = max(len(text.prompt) for text in texts) + max(len(text.answer) for text in texts)
    reference = LoadedModel(exam.checkpoint, _REFERENCE, longest)
    logits = _told(reference, texts)
    written = _written(reference, exam, texts)
    del reference
    for variant in variants:
        model = LoadedModel(exam.checkpoint, variant, longest)
        comparison = LogitComparison()
        for theirs, text in zip(logits, texts, strict=True):
            comparison.add(theirs, model.logits(text.prompt, text.answer))
        own = _written(model, exam, texts)
        yield VariantFigures(
            model=exam.model,
            variant=variant.name,
            bits_a_weight=8 * model.meter.bytes / model.meter.values,
            weight_error=model.meter.error,
            logits=comparison.figures(),
            texts=compare_texts(written, own),
            right=_grade(exam, own),
        )


def _told(model: LoadedModel, texts: Sequence[Text]) -> list[Tensor]:
    return [model.logits(text.prompt, text.answer) for text in texts]


def _written(model: LoadedModel, exam: Exam, texts: Sequence[Text]) -> list[list[int]]:
    """Answers that are as long as the longest right one at most."""
    prompts = [text.prompt for text in texts]
    return model.generate(prompts, max(len(text.answer) for text in texts), exam.end_ids)


def _grade(exam: Exam, written: Sequence[Sequence[int]]) -> dict[str, float]:
    """Share of answers that are right to the last token, by task."""
    if not exam.answers_matter:
        return {}
    answers = iter(written)
    return {
        task: sum(text.answer == tuple(next(answers)) for text in texts) / len(texts)
        for task, texts in exam.texts.items()
    }
