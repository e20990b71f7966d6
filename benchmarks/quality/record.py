"""What is kept of a comparison of quantized models."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.machine import Machine, Revision
from benchmarks.quality.compare import LogitFigures, TextFigures


@dataclass(frozen=True, slots=True)
class VariantFigures:
    """How a model fared in one of its variants, beside itself in float32.

    Attributes:
        bits_a_weight: that its matrices take, scales included; embeddings that are no head are not counted.
        weight_error: root mean squared error of these weights, as a part of their own root mean square.
        right: share of right answers, by task; empty where there are no right ones.
    """

    model: str
    variant: str
    bits_a_weight: float
    weight_error: float
    logits: LogitFigures
    texts: TextFigures
    right: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class QualityRecord:
    """A comparison, and with what it was made.

    Attributes:
        name: what it is kept under, after the date.
        date: day and time of its start, UTC, in ISO 8601.
        seed: what the texts were drawn with.
        questions: texts by model and task.
    """

    name: str
    date: str
    seed: int
    machine: Machine
    revision: Revision | None
    versions: Mapping[str, str]
    questions: Mapping[str, Mapping[str, int]]
    figures: tuple[VariantFigures, ...]
