"""The comparison of quantized models: its figures, and a small exam from beginning to end."""

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks.quality.compare import LogitComparison, TextFigures, compare_texts
from benchmarks.quality.measure import examine, record_quality
from benchmarks.quality.model import LoadedModel, Variant
from benchmarks.quality.record import QualityRecord
from benchmarks.quality.report import render_page, save_report
from benchmarks.quality.texts import Exam, demo_exam, random_exam
from benchmarks.quality.weights import WeightMeter
from tgi_common.choices import Quantization
from tgi_demo import MODEL_PATH
from tgi_shard.quantization.schemes import INT4, INT8, UNQUANTIZED

BFLOAT16 = Variant("bfloat16", torch.bfloat16, None, kernels=None)
FLOAT32 = Variant("float32", torch.float32, None, kernels=None)


def few(exam: Exam) -> Exam:
    """Two questions of each of two tasks."""
    texts = {task: texts[:2] for task, texts in list(exam.texts.items())[:2]}
    return Exam(exam.model, exam.checkpoint, texts, exam.answers_matter, exam.end_ids)


@pytest.fixture(scope="module")
def exam() -> Exam:
    return few(demo_exam(seed=1))


def test_equal_logits_differ_by_nothing() -> None:
    comparison = LogitComparison()
    logits = torch.randn(5, 20)
    comparison.add(logits, logits)
    figures = comparison.figures()
    assert (figures.tokens, figures.same_likeliest) == (5, 1)
    assert (figures.mean_difference, figures.largest_difference, figures.relative_difference) == (0, 0, 0)
    assert figures.divergence == pytest.approx(0, abs=1e-12)


def test_differences_of_logits_are_those_of_all_texts_together() -> None:
    comparison = LogitComparison()
    comparison.add(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 1.0]]))
    comparison.add(torch.tensor([[1.0, 3.0]]), torch.tensor([[4.0, 3.0]]))
    figures = comparison.figures()
    assert figures.tokens == 2
    assert figures.mean_difference == pytest.approx((0 + 1 + 3 + 0) / 4)
    assert figures.largest_difference == 3
    assert figures.relative_difference == pytest.approx(math.sqrt((1 + 9) / (4 * 1.0)))
    assert figures.same_likeliest == 0.5


def test_the_divergence_is_from_the_reference() -> None:
    comparison = LogitComparison()
    comparison.add(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.4, 0.6]]).log())
    assert comparison.figures().divergence == pytest.approx(0.8 * math.log(2) - 0.2 * math.log(3))


def test_a_level_that_all_logits_share_does_not_diverge() -> None:
    comparison = LogitComparison()
    logits = torch.randn(3, 10)
    comparison.add(logits, logits + 7)
    assert comparison.figures().divergence == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ([1, 2, 3, 4], TextFigures(1, 1, 1)),
        ([1, 2, 9, 4], TextFigures(0, 0.5, 0.75)),
        ([9, 2, 3, 4], TextFigures(0, 0, 0.75)),
        ([1, 2], TextFigures(0, 0.5, 0.5)),
        ([1, 2, 3, 4, 5, 6, 7, 8], TextFigures(0, 0.5, 0.5)),
    ],
)
def test_texts_agree_up_to_a_token_and_in_places(text: list[int], expected: TextFigures) -> None:
    assert compare_texts([[1, 2, 3, 4]], [text]) == expected


def test_each_text_counts_as_much() -> None:
    figures = compare_texts([[1], [1, 2, 3, 4]], [[1], [5, 6, 7, 8]])
    assert figures == TextFigures(0.5, 0.5, 0.5)


def test_the_meter_adds_up_what_the_matrices_take() -> None:
    meter = WeightMeter()
    weight = torch.randn(64, 96).bfloat16()
    meter.watch(UNQUANTIZED).layers(weight)
    assert (meter.values, meter.bytes, meter.error) == (64 * 96, 2 * 64 * 96, 0)
    meter.watch(INT8).head(weight)
    assert meter.bytes == 3 * 64 * 96 + 4 * 64
    meter = WeightMeter()
    meter.watch(INT4).layers(weight)
    assert 8 * meter.bytes / meter.values == 5
    assert 0.05 < meter.error < 0.08


def test_the_demo_is_asked_fresh_questions_whose_answers_end() -> None:
    exam = demo_exam(seed=3)
    assert "sums, held out" in exam.texts
    assert sum(map(len, exam.texts.values())) > 500
    for texts in exam.texts.values():
        assert all(text.answer[-1] in exam.end_ids for text in texts)
    assert exam.texts == demo_exam(seed=3).texts
    assert exam.texts != demo_exam(seed=4).texts


def test_a_random_model_is_told_random_words_of_one_length() -> None:
    texts = random_exam("m", MODEL_PATH, seed=0).texts["random words"]
    assert {len(text.prompt) for text in texts} == {32}
    assert len({text.prompt for text in texts}) == len(texts)


@torch.inference_mode()
def test_a_model_writes_the_tokens_that_its_own_logits_ask_for(exam: Exam) -> None:
    texts = [text for texts in exam.texts.values() for text in texts]
    model = LoadedModel(MODEL_PATH, FLOAT32, longest_text=200)
    written = model.generate([text.prompt for text in texts], 30, exam.end_ids)
    for text, tokens in zip(texts, written, strict=True):
        assert model.logits(text.prompt, tokens).argmax(-1).tolist() == tokens


def test_no_more_tokens_are_written_than_asked_for(exam: Exam) -> None:
    model = LoadedModel(MODEL_PATH, FLOAT32, longest_text=200)
    prompts = [text.prompt for texts in exam.texts.values() for text in texts]
    with torch.inference_mode():
        assert {len(text) for text in model.generate(prompts, 3, frozenset())} == {3}


def test_fewer_bits_are_farther_from_float32(exam: Exam) -> None:
    eight, four = (
        Variant(each.value, torch.bfloat16, each, kernels=None)
        for each in (Quantization.INT8, Quantization.INT4)
    )
    wide, middle, narrow = examine(exam, [BFLOAT16, eight, four])
    assert wide.bits_a_weight == 16 > middle.bits_a_weight > 8 > narrow.bits_a_weight
    assert wide.weight_error == 0 < middle.weight_error < narrow.weight_error
    assert wide.logits.relative_difference < middle.logits.relative_difference
    assert middle.logits.relative_difference < narrow.logits.relative_difference
    assert wide.right == dict.fromkeys(exam.texts, 1.0)


@pytest.fixture(scope="module")
def record(exam: Exam) -> QualityRecord:
    return record_quality([exam], seed=1, name="quality", kernels=None)


def test_the_record_is_kept_as_json_and_as_a_page(record: QualityRecord, tmp_path: Path) -> None:
    page = save_report(record, tmp_path)
    kept = json.loads(page.with_suffix(".json").read_bytes())
    assert [row["variant"] for row in kept["figures"]] == ["bfloat16", "int8", "int4"]
    assert kept["questions"] == {"tgi-demo": {"sums, held out": 2, "sums seen in training": 2}}
    assert page.read_text() == render_page(record)


def test_the_page_has_a_row_for_each_variant_and_each_task(record: QualityRecord) -> None:
    page = render_page(record)
    for variant in ("bfloat16", "int8", "int4"):
        assert f"| tgi-demo | {variant} |" in page
    assert "| sums, held out | 2 | " in page
    assert "| all | 4 | " in page
