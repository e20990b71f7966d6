"""The sampler against transformers' processors, and its independence of who shares the batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
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

from tgi_shard.sampling import part
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.sampling.sampler import BatchSampler, SamplerRow

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
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.9]),
    presence_penalty=st.sampled_from([0.0, 0.0, 1.5, -0.5]),
    token_bias=st.sampled_from([{}, {}, {3: 5.0, 7: -100.0}]),
    watermark=st.sampled_from([False, False, True]),
    min_new_tokens=st.sampled_from([0, 0, 3]),
    end_ids=st.just(frozenset({2, 5})),
)


def random_logits(rows: int, *, vocab: int = VOCAB, scale: float = 4.0, seed: int = 0) -> Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * scale


@dataclass(frozen=True)
class Outcome:
    """What a sampler chose, and by which scores."""

    token_ids: Tensor
    logprobs: Tensor
    scores: Tensor


def make_sampler(
    rows: Sequence[SamplerRow], *, vocab: int = VOCAB, device: torch.device = CPU
) -> BatchSampler:
    sampler = BatchSampler(vocab, device)
    sampler.rearrange(np.arange(len(rows)), rows)
    return sampler


def plain_rows(parameters: Sequence[SamplingParameters]) -> list[SamplerRow]:
    return [SamplerRow(p, [1]) for p in parameters]


def run(sampler: BatchSampler, logits: Tensor, generated: Sequence[int]) -> Outcome:
    counts = np.asarray(generated, dtype=np.int64)
    sampled = sampler.sample(logits, counts)
    return Outcome(
        sampled.token_ids, sampled.logprobs, sampler.scores(logits, counts, np.arange(len(logits)))
    )


def sample(parameters: Sequence[SamplingParameters], logits: Tensor, position: int = 0) -> Outcome:
    sampler = make_sampler(plain_rows(parameters), vocab=logits.shape[1])
    return run(sampler, logits, [position] * len(parameters))


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
        SamplerRow(SamplingParameters(repetition_penalty=p), ids)
        for p, ids in zip(penalties, histories, strict=True)
    ]
    scores = run(make_sampler(rows), logits, [0, 0, 0]).scores
    for row, (penalty, ids) in enumerate(zip(penalties, histories, strict=True)):
        processor = RepetitionPenaltyLogitsProcessor(penalty)
        assert torch.equal(scores[row], processor(torch.tensor([ids]), logits[row, None].clone())[0])


def test_frequency_penalty_counts_each_generated_token_and_not_the_prompt() -> None:
    logits = random_logits(2)
    rows = [
        SamplerRow(SamplingParameters(frequency_penalty=0.5), [3, 3, 4, 4, 4, 8]),
        SamplerRow(SamplingParameters(frequency_penalty=-1.0), [0, 0, 0]),
    ]
    sampler = make_sampler(rows)
    expected = logits.clone()
    expected[0, 4] -= 2 * 0.5
    expected[0, 8] -= 0.5
    torch.testing.assert_close(run(sampler, logits, [3, 0]).scores, expected)
    sampler.observe(torch.tensor([8, 2]))
    expected[0, 8] -= 0.5
    expected[1, 2] += 1
    torch.testing.assert_close(run(sampler, logits, [4, 1]).scores, expected)


def test_frequency_penalty_comes_after_repetition_penalty() -> None:
    parameters = SamplingParameters(repetition_penalty=2.0, frequency_penalty=1.0)
    sampler = make_sampler([SamplerRow(parameters, [1, 2])], vocab=4)
    scores = run(sampler, torch.tensor([[1.0, 4.0, 4.0, 1.0]]), [1]).scores
    assert scores.tolist() == [[1.0, 2.0, 1.0, 1.0]]


def test_the_logits_are_left_as_they_were() -> None:
    logits = random_logits(2)
    before = logits.clone()
    parameters = SamplingParameters(temperature=0.5, top_k=3, repetition_penalty=2.0, frequency_penalty=1.0)
    rows = [SamplerRow(parameters, [1, 2, 3]), SamplerRow(SamplingParameters(), [1])]
    run(make_sampler(rows), logits, [2, 2])
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
    rows = [SamplerRow(p, ids) for p, ids in zip(parameters, histories, strict=True)]
    generated = [data.draw(st.integers(0, len(ids) - 1)) for ids in histories]
    together = run(make_sampler(rows), logits, generated)
    scores = together.scores
    for i, row in enumerate(rows):
        alone = run(make_sampler([row]), logits[i, None], [generated[i]])
        assert alone.token_ids[0] == together.token_ids[i]
        assert alone.logprobs[0] == together.logprobs[i]
        assert torch.equal(alone.scores[0], scores[i])


@dataclass
class Text:
    """A row being generated: `tokens` begin with the prompt."""

    parameters: SamplingParameters
    prompt: list[int]
    tokens: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.prompt)

    def row(self) -> SamplerRow:
        return SamplerRow(self.parameters, list(self.tokens))


def go_on(sampler: BatchSampler, texts: list[Text]) -> None:
    """One step, with random logits for each row and position."""
    logits = torch.cat([random_logits(1, seed=text.parameters.seed + text.generated) for text in texts])
    token_ids = sampler.sample(logits, np.array([text.generated for text in texts])).token_ids
    sampler.observe(token_ids)
    for text, token_id in zip(texts, token_ids.tolist(), strict=True):
        text.tokens.append(token_id)


def mixed_texts() -> list[Text]:
    return [
        Text(SamplingParameters(repetition_penalty=1.5, frequency_penalty=0.3), [1, 2, 3]),
        Text(SamplingParameters(do_sample=True, frequency_penalty=-0.7, seed=5), list(range(30))),
        Text(SamplingParameters(), [8]),
        Text(SamplingParameters(top_p=0.9, repetition_penalty=1.2, seed=6), [4, 4]),
        Text(SamplingParameters(temperature=0.8, seed=7), [9]),
        Text(SamplingParameters(repetition_penalty=1.3, seed=8), [7] * 200),
    ]


def alone(text: Text, steps: int) -> list[int]:
    text = Text(text.parameters, text.prompt)
    for _ in range(steps):
        go_on(make_sampler([text.row()]), [text])  # made anew from the tokens at every step
    return text.tokens


def test_a_kept_sampler_equals_one_made_anew_from_the_tokens() -> None:
    texts, steps = mixed_texts(), 80  # more than a history has room for at first
    sampler = make_sampler([text.row() for text in texts])
    for _ in range(steps):
        go_on(sampler, texts)
    assert [text.tokens for text in texts] == [alone(text, steps) for text in texts]


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_rows_may_join_leave_and_change_places_at_any_step(data: st.DataObject) -> None:
    waiting, running, left = mixed_texts(), [], []
    sampler = BatchSampler(VOCAB, CPU)
    for _ in range(data.draw(st.integers(1, 6))):
        joined = waiting[: data.draw(st.integers(0, len(waiting)))]
        waiting = waiting[len(joined) :]
        order = data.draw(st.permutations(range(len(running) + len(joined))))
        kept = order[: data.draw(st.integers(0, len(order)))]
        sampler.rearrange(np.array(kept, dtype=np.int64), [text.row() for text in joined])
        present = [*running, *joined]
        running = [present[place] for place in kept]
        left += [text for place, text in enumerate(present) if place not in kept]
        for _ in range(data.draw(st.integers(0, 3)) if running else 0):
            go_on(sampler, running)
    for text in (*running, *left):
        assert text.tokens == alone(text, text.generated)


def test_a_given_kernel_makes_the_greedy_choices_from_the_models_own_logits() -> None:
    seen: list[Tensor] = []

    def kernel(logits: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(logits)
        return torch.full((len(logits),), 3), torch.full((len(logits),), -0.5)

    parameters = [
        SamplingParameters(),
        SamplingParameters(do_sample=True, seed=1),
        SamplingParameters(),
        SamplingParameters(repetition_penalty=1.5),
    ]
    logits = random_logits(4).bfloat16()
    sampler = BatchSampler(VOCAB, CPU, kernel)
    sampler.rearrange(np.arange(4), plain_rows(parameters))
    sampled = sampler.sample(logits, np.zeros(4, dtype=np.int64))
    assert [torch.equal(rows, logits[[0, 2]]) for rows in seen] == [True]
    assert sampled.token_ids[[0, 2]].tolist() == [3, 3]
    assert sampled.token_ids[3] != 3
    assert sampled.logprobs[[0, 2]].tolist() == [-0.5, -0.5]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_the_rows_that_are_worked_on_at_once_change_nothing(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = [text.parameters for text in mixed_texts()] * 2
    logits = random_logits(len(parameters))
    expected = sample(parameters, logits)
    monkeypatch.setattr(part, "_SCORES_AT_ONCE", at_once * VOCAB)
    divided = sample(parameters, logits)
    assert torch.equal(divided.token_ids, expected.token_ids)
    assert torch.equal(divided.logprobs, expected.logprobs)
    assert torch.equal(divided.scores, expected.scores)


def test_a_seed_and_a_position_make_the_draw() -> None:
    logits = random_logits(1, scale=0.5).repeat(4, 1)
    parameters = [SamplingParameters(do_sample=True, seed=seed) for seed in (1, 1, 2, 1)]
    sampler = make_sampler(plain_rows(parameters))
    first = sampler.sample(logits, np.array([0, 0, 0, 1])).token_ids.tolist()
    assert first[0] == first[1]
    assert len({first[0], first[2], first[3]}) == 3


@pytest.mark.parametrize("asked", [{"do_sample": True}, {"top_k": 8}, {"top_p": 0.9}, {"typical_p": 0.8}])
def test_draws_follow_the_distribution(asked: dict[str, float]) -> None:
    draws = 20_000
    logits = random_logits(1, vocab=12, scale=1.5, seed=3)
    for vary in ("seed", "position"):
        parameters = [SamplingParameters(seed=i if vary == "seed" else 11, **asked) for i in range(draws)]
        position = np.arange(draws) if vary == "position" else np.zeros(draws, dtype=np.int64)
        sampler = make_sampler(plain_rows(parameters), vocab=12)
        token_ids = sampler.sample(logits.expand(draws, -1), position).token_ids
        expected = transformers_scores(parameters[0], logits[0]).double().softmax(-1) * draws
        observed = torch.bincount(token_ids, minlength=12).double()
        assert not observed[expected == 0].any()
        possible = expected > 0
        chi_square = ((observed - expected) ** 2 / expected)[possible].sum().item()
        assert chi_square < 37  # 99.99% of chi-square with 11 degrees of freedom, the most there can be


def test_the_cpu_samples_for_a_device_that_lacks_float64() -> None:
    rows = [SamplerRow(SamplingParameters(top_p=0.9, repetition_penalty=1.2, seed=3), [1, 2])]
    logits = random_logits(1)
    sampler = make_sampler(rows, device=torch.device("mps"))
    sampled = run(sampler, logits, [1])
    sampler.observe(sampled.token_ids)
    expected = run(make_sampler(rows), logits, [1])
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
    row = SamplerRow(SamplingParameters(repetition_penalty=penalty, do_sample=True, temperature=0.5), [0, 1])
    sampled = run(make_sampler([row], vocab=4), torch.tensor([[2.0, -1.0, 0.5, 0.1]]), [0])
    assert torch.isfinite(sampled.logprobs).all()
    # Below 1 the penalty rewards what was seen and liked; above, it rules it out.
    assert (int(sampled.token_ids[0]) == 0) == (penalty < 1)
