"""The sampler against transformers' processors, and its independence of who shares the batch."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.sampling.sampler import BatchSampler, Sampled, SamplerRow

CPU = torch.device("cpu")
VOCAB = 1000

rows_of_any_kind = st.builds(
    SamplingParameters,
    temperature=st.sampled_from([1.0, 0.5, 1.7]),
    top_k=st.sampled_from([0, 0, 1, 5, 400, 5000]),
    top_p=st.sampled_from([1.0, 0.1, 0.9, 0.999]),
    typical_p=st.sampled_from([1.0, 1.0, 0.2, 0.95]),
    do_sample=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.7]),
    frequency_penalty=st.sampled_from([0.0, 0.5, -0.5]),
)


def random_logits(rows: int, *, vocab: int = VOCAB, scale: float = 4.0, seed: int = 0) -> Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * scale


def sampler(parameters: Sequence[SamplingParameters], *, vocab: int = VOCAB) -> BatchSampler:
    return BatchSampler.from_rows([SamplerRow(p, [1], 1) for p in parameters], vocab, CPU)


def sample(parameters: Sequence[SamplingParameters], logits: Tensor, position: int = 0) -> Sampled:
    generated = torch.full((len(parameters),), position, dtype=torch.int64)
    return sampler(parameters, vocab=logits.shape[1])(logits, generated)


def transformers_scores(parameters: SamplingParameters, logits: Tensor) -> Tensor:
    """One row's scores, as transformers' warpers leave them in TGI's order. logits: [vocab]."""
    warpers = []
    if parameters.temperature != 1:
        warpers.append(TemperatureLogitsWarper(parameters.temperature))
    if parameters.top_k:
        warpers.append(TopKLogitsWarper(parameters.top_k))
    if parameters.top_p < 1:
        warpers.append(TopPLogitsWarper(parameters.top_p))
    if parameters.typical_p < 1:
        warpers.append(TypicalLogitsWarper(parameters.typical_p))
    scores = logits.unsqueeze(0)
    for warper in warpers:
        scores = warper(None, scores)
    return scores[0]


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": 0.3},
        {"top_k": 1},
        {"top_k": 40},
        {"top_k": 900},
        {"top_k": 100_000},
        {"top_p": 0.01},
        {"top_p": 0.9},
        {"top_p": 0.9999},
        {"typical_p": 0.2},
        {"typical_p": 0.95},
        {"temperature": 1.8, "top_k": 50, "top_p": 0.8},
        {"top_k": 50, "typical_p": 0.5},
        {"top_p": 0.9, "typical_p": 0.5},
        {"temperature": 0.7, "top_k": 300, "top_p": 0.95, "typical_p": 0.9},
    ],
)
@pytest.mark.parametrize("scale", [0.1, 4.0])
def test_processed_scores_equal_those_of_transformers(asked: dict[str, float], scale: float) -> None:
    parameters = SamplingParameters(**asked)
    logits = random_logits(8, scale=scale)
    sampled = sample([parameters] * 8, logits)
    expected = torch.stack([transformers_scores(parameters, row) for row in logits])
    torch.testing.assert_close(sampled.scores, expected)
    logprobs = expected.double().log_softmax(-1).gather(1, sampled.token_ids.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(sampled.logprobs.double(), logprobs, atol=2e-6, rtol=1e-6)


def test_top_k_keeps_what_equals_the_kth() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0, 2.0]])
    scores = sample([SamplingParameters(top_k=2)], logits).scores
    assert scores.isfinite().nonzero()[:, 1].tolist() == [1, 2, 3, 5]


def test_top_k_is_exact_when_most_of_the_vocabulary_is_tied() -> None:
    logits = torch.zeros(1, 50_000)
    logits[0, 7] = 1.0
    scores = sample([SamplingParameters(top_k=2)], logits).scores
    assert scores.isfinite().all()


def test_top_p_counts_all_the_ties_that_top_k_keeps() -> None:
    logits = torch.zeros(1, 50_000)
    logits[0, 7] = 5.0  # likelier than the others, but far from likely
    parameters = SamplingParameters(top_k=2, top_p=0.2)
    kept = sample([parameters], logits).scores[0].isfinite()
    share = (torch.arange(1, 50_000) + math.exp(5)) / (49_999 + math.exp(5))
    assert kept.sum() == 1 + (share < 0.2).sum() + 1


def test_top_p_keeps_the_smallest_set_and_prefers_low_ids_among_equals() -> None:
    scores = sample([SamplingParameters(top_p=p) for p in (1e-6, 0.5, 0.51)], torch.zeros(3, 4)).scores
    assert [row.isfinite().nonzero()[:, 0].tolist() for row in scores] == [[0], [0, 1], [0, 1, 2]]


def test_a_top_p_near_zero_is_greedy() -> None:
    logits = random_logits(50).round()  # many ties for the first place
    greedy = sample([SamplingParameters()] * 50, logits)
    sampled = sample([SamplingParameters(top_p=1e-6, seed=i) for i in range(50)], logits)
    assert torch.equal(sampled.token_ids, greedy.token_ids)
    assert not sampled.logprobs.any()


def test_greedy_takes_the_lowest_id_among_equals_and_reports_its_logprob() -> None:
    logits = torch.tensor([[0.0, 5.0, 5.0, 1.0]], dtype=torch.bfloat16)
    sampled = sample([SamplingParameters()], logits)
    assert sampled.token_ids.tolist() == [1]
    expected = logits.double().log_softmax(-1)[0, 1].item()
    assert sampled.logprobs.tolist() == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("temperature", [1e-45, 1e-20, 1e-3])
def test_a_tiny_temperature_takes_the_likeliest_token(temperature: float) -> None:
    logits = random_logits(4)
    sampled = sample([SamplingParameters(temperature=temperature, seed=i) for i in range(4)], logits)
    assert torch.equal(sampled.token_ids, logits.argmax(-1))
    assert not sampled.logprobs.any()


def test_repetition_penalty_equals_transformers_on_prompt_and_output() -> None:
    logits = random_logits(3)
    histories = [[5, 6, 5, 900], [7], list(range(400))]
    penalties = [1.3, 0.5, 4.0]
    rows = [
        SamplerRow(SamplingParameters(repetition_penalty=p), ids, 1)
        for p, ids in zip(penalties, histories, strict=True)
    ]
    scores = BatchSampler.from_rows(rows, VOCAB, CPU)(logits, torch.zeros(3, dtype=torch.int64)).scores
    for row, (penalty, ids) in enumerate(zip(penalties, histories, strict=True)):
        processor = RepetitionPenaltyLogitsProcessor(penalty)
        assert torch.equal(scores[row], processor(torch.tensor([ids]), logits[row, None].clone())[0])


def test_frequency_penalty_counts_each_generated_token_and_not_the_prompt() -> None:
    logits = random_logits(2)
    rows = [
        SamplerRow(SamplingParameters(frequency_penalty=0.5), [3, 3, 4, 4, 4, 8], 3),
        SamplerRow(SamplingParameters(frequency_penalty=-1.0), [0, 0, 0], 3),
    ]
    sampler = BatchSampler.from_rows(rows, VOCAB, CPU)
    expected = logits.clone()
    expected[0, 4] -= 2 * 0.5
    expected[0, 8] -= 0.5
    position = torch.tensor([3, 0])
    torch.testing.assert_close(sampler(logits, position).scores, expected)
    sampler.observe(torch.tensor([8, 2]))
    expected[0, 8] -= 0.5
    expected[1, 2] += 1
    torch.testing.assert_close(sampler(logits, position + 1).scores, expected)


def test_frequency_penalty_comes_after_repetition_penalty() -> None:
    parameters = SamplingParameters(repetition_penalty=2.0, frequency_penalty=1.0)
    sampler = BatchSampler.from_rows([SamplerRow(parameters, [1, 2], 1)], 4, CPU)
    scores = sampler(torch.tensor([[1.0, 4.0, 4.0, 1.0]]), torch.tensor([1])).scores
    assert scores.tolist() == [[1.0, 2.0, 1.0, 1.0]]


def test_the_logits_are_left_as_they_were() -> None:
    logits = random_logits(2)
    before = logits.clone()
    parameters = SamplingParameters(temperature=0.5, top_k=3, repetition_penalty=2.0, frequency_penalty=1.0)
    rows = [SamplerRow(parameters, [1, 2, 3], 1)] * 2
    BatchSampler.from_rows(rows, VOCAB, CPU)(logits, torch.tensor([2, 2]))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_may_lie_in_memory_in_any_order(dtype: torch.dtype) -> None:
    parameters = [
        SamplingParameters(repetition_penalty=2.0),
        SamplingParameters(do_sample=True, seed=1),
        SamplingParameters(top_p=0.9, frequency_penalty=0.5, seed=2),
    ]
    logits = random_logits(3).to(dtype)
    scattered = logits.T.contiguous().T
    padded = torch.cat([logits, logits], dim=1)[:, :VOCAB]
    expected = sample(parameters, logits)
    for same in (scattered, padded):
        assert torch.equal(sample(parameters, same).token_ids, expected.token_ids)
        assert torch.equal(sample(parameters, same).scores, expected.scores)


@given(st.lists(rows_of_any_kind, min_size=2, max_size=6), st.data())
@settings(max_examples=40, deadline=None)
def test_a_row_gets_the_same_whatever_shares_its_batch(
    parameters: list[SamplingParameters], data: st.DataObject
) -> None:
    count = len(parameters)
    scale = data.draw(st.sampled_from([0.05, 3.0]))
    logits = random_logits(count, scale=scale, seed=data.draw(st.integers(0, 5)))
    if data.draw(st.booleans()):
        logits = logits.bfloat16()  # ties
    histories = [data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=9)) for _ in parameters]
    rows = [
        SamplerRow(p, ids, data.draw(st.integers(1, len(ids))))
        for p, ids in zip(parameters, histories, strict=True)
    ]
    generated = torch.tensor([len(row.token_ids) - row.prompt_length for row in rows])
    together = BatchSampler.from_rows(rows, VOCAB, CPU)(logits, generated)
    scores = together.scores
    for i, row in enumerate(rows):
        alone = BatchSampler.from_rows([row], VOCAB, CPU)(logits[i, None], generated[i, None])
        assert alone.token_ids[0] == together.token_ids[i]
        assert alone.logprobs[0] == together.logprobs[i]
        assert torch.equal(alone.scores[0], scores[i])


def run_steps(rows: list[SamplerRow], steps: int, *, keep: bool) -> list[list[int]]:
    """Generate with random logits per row and position; with `keep`, one sampler is kept for all steps."""
    texts = [list(row.token_ids) for row in rows]
    starts = [len(text) for text in texts]
    sampler = None
    for step in range(steps):
        if sampler is None or not keep:
            now = [
                SamplerRow(row.parameters, t, row.prompt_length) for row, t in zip(rows, texts, strict=True)
            ]
            sampler = BatchSampler.from_rows(now, VOCAB, CPU)
        logits = torch.cat([random_logits(1, seed=row.parameters.seed + step) for row in rows])
        position = torch.tensor([len(t) - row.prompt_length for row, t in zip(rows, texts, strict=True)])
        token_ids = sampler(logits, position).token_ids
        sampler.observe(token_ids)
        for text, token_id in zip(texts, token_ids.tolist(), strict=True):
            text.append(token_id)
    return [text[start:] for text, start in zip(texts, starts, strict=True)]


def test_a_sampler_rebuilt_from_ids_equals_one_that_was_kept() -> None:
    rows = [
        SamplerRow(SamplingParameters(repetition_penalty=1.5, frequency_penalty=0.3), [1, 2, 3], 3),
        SamplerRow(SamplingParameters(do_sample=True, frequency_penalty=-0.7, seed=5), list(range(30)), 12),
        SamplerRow(SamplingParameters(top_p=0.9, repetition_penalty=1.2, seed=6), [4, 4], 1),
        SamplerRow(SamplingParameters(temperature=0.8, seed=7), [9], 1),
    ]
    steps = 80  # more than the history has room for at first
    kept = run_steps(rows, steps, keep=True)
    assert kept == run_steps(rows, steps, keep=False)
    assert kept == [run_steps([row], steps, keep=True)[0] for row in rows]


def test_a_seed_and_a_position_make_the_draw() -> None:
    logits = random_logits(1, scale=0.5).repeat(4, 1)
    parameters = [SamplingParameters(do_sample=True, seed=seed) for seed in (1, 1, 2, 1)]
    first = sampler(parameters)(logits, torch.tensor([0, 0, 0, 1])).token_ids.tolist()
    assert first[0] == first[1]
    assert len({first[0], first[2], first[3]}) == 3


@pytest.mark.parametrize("asked", [{"do_sample": True}, {"top_k": 8}, {"top_p": 0.9}, {"typical_p": 0.8}])
def test_draws_follow_the_distribution(asked: dict[str, float]) -> None:
    draws = 20_000
    logits = random_logits(1, vocab=12, scale=1.5, seed=3)
    for vary in ("seed", "position"):
        parameters = [SamplingParameters(seed=i if vary == "seed" else 11, **asked) for i in range(draws)]
        position = torch.arange(draws) if vary == "position" else torch.zeros(draws, dtype=torch.int64)
        token_ids = sampler(parameters, vocab=12)(logits.expand(draws, -1), position).token_ids
        expected = transformers_scores(parameters[0], logits[0]).double().softmax(-1) * draws
        observed = torch.bincount(token_ids, minlength=12).double()
        assert not observed[expected == 0].any()
        possible = expected > 0
        chi_square = ((observed - expected) ** 2 / expected)[possible].sum().item()
        assert chi_square < 37  # 99.99% of chi-square with 11 degrees of freedom, the most there can be


def test_the_cpu_samples_for_a_device_that_lacks_float64() -> None:
    rows = [SamplerRow(SamplingParameters(top_p=0.9, repetition_penalty=1.2, seed=3), [1, 2], 1)]
    logits, position = random_logits(1), torch.tensor([1])
    sampler = BatchSampler.from_rows(rows, VOCAB, torch.device("mps"))
    sampled = sampler(logits, position)
    sampler.observe(sampled.token_ids)
    expected = BatchSampler.from_rows(rows, VOCAB, CPU)(logits, position)
    assert torch.equal(sampled.token_ids, expected.token_ids)


def test_flat_and_peaked_rows_are_truncated_in_one_batch() -> None:
    vocab = 8192  # wide enough for the ranking to go through all its widths
    scales = (0.01, 0.8, 2.0, 8.0)
    logits = torch.cat([random_logits(1, vocab=vocab, scale=scale) for scale in scales])
    parameters = [SamplingParameters(top_p=0.9, seed=i) for i in range(len(scales))]
    scores = sample(parameters, logits).scores
    expected = torch.stack([transformers_scores(parameters[0], row) for row in logits])
    kept, expected_kept = scores.isfinite().sum(-1), expected.isfinite().sum(-1)
    assert (
        kept - expected_kept
    ).abs().max() <= 1  # transformers sums thousands of float32 from the small end
    assert kept[0] > 7000
    assert kept[3] < 64


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf, torch.inf])
def test_a_row_without_a_distribution_reports_nan_and_harms_no_other(bad: float) -> None:
    parameters = [
        SamplingParameters(),
        SamplingParameters(do_sample=True),
        SamplingParameters(top_p=0.9, top_k=5),
        SamplingParameters(typical_p=0.9),
    ]
    good = random_logits(4)
    logits = torch.cat([good, torch.full_like(good, bad)])
    sampled = sample(parameters * 2, logits)
    alone = sample(parameters, good)
    assert torch.equal(sampled.token_ids[:4], alone.token_ids)
    assert torch.equal(sampled.logprobs[:4], alone.logprobs)
    assert sampled.logprobs[4:].isnan().all()
    assert ((sampled.token_ids >= 0) & (sampled.token_ids < VOCAB)).all()


@pytest.mark.parametrize("penalty", [1e-40, 1e-5, 1e30])
def test_an_extreme_repetition_penalty_still_leaves_something_to_draw(penalty: float) -> None:
    row = SamplerRow(
        SamplingParameters(repetition_penalty=penalty, do_sample=True, temperature=0.5), [0, 1], 2
    )
    sampler = BatchSampler.from_rows([row], 4, torch.device("cpu"))
    sampled = sampler(torch.tensor([[2.0, -1.0, 0.5, 0.1]]), torch.tensor([0]))
    assert torch.isfinite(sampled.logprobs).all()
    # Below 1 the penalty rewards what was seen and liked; above, it rules it out.
    assert (int(sampled.token_ids[0]) == 0) == (penalty < 1)
