"""What requests may ask for beyond TGI's penalties: biases, presence, min_p, watermarks, a least length."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.sampling.sampler import BatchSampler, SamplerRow
from tgi_shard.sampling.watermark import BONUS, favoured

CPU = torch.device("cpu")
VOCAB = 64


def scores_of(parameters: SamplingParameters, tokens: list[int], generated: int, logits: Tensor) -> Tensor:
    """The scores by which one row's token is chosen. logits: [vocabulary]."""
    sampler = BatchSampler(VOCAB, CPU)
    sampler.rearrange(np.arange(1), [SamplerRow(parameters, tokens)])
    return sampler.scores(logits[None], np.array([generated]), np.arange(1))[0]


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(1))


def test_a_bias_is_added_to_the_scores_of_its_tokens_alone(logits: Tensor) -> None:
    scores = scores_of(SamplingParameters(token_bias={3: 4.5, 60: -100.0}), [1], 0, logits)
    expected = logits.clone()
    expected[3] += 4.5
    expected[60] -= 100
    torch.testing.assert_close(scores, expected)


def test_a_bias_decides_a_greedy_choice(logits: Tensor) -> None:
    sampler = BatchSampler(VOCAB, CPU)
    sampler.rearrange(np.arange(1), [SamplerRow(SamplingParameters(token_bias={9: 100.0}), [1])])
    assert sampler.sample(logits[None], np.zeros(1, dtype=np.int64)).token_ids.tolist() == [9]


def test_presence_counts_generated_tokens_once_and_the_prompt_never(logits: Tensor) -> None:
    prompt, output = [1, 2, 3], [3, 4, 4, 4]
    scores = scores_of(SamplingParameters(presence_penalty=0.75), [*prompt, *output], len(output), logits)
    expected = logits.clone()
    expected[[3, 4]] -= 0.75
    torch.testing.assert_close(scores, expected)


def test_a_row_that_has_generated_less_than_its_neighbour_loses_nothing_of_its_prompt(logits: Tensor) -> None:
    parameters = SamplingParameters(presence_penalty=0.75)
    rows = [
        SamplerRow(parameters, [1, 2, 3, 4, 5, 5]),
        SamplerRow(parameters, [6, 7]),
        SamplerRow(parameters, [8, 9]),
    ]
    sampler = BatchSampler(VOCAB, CPU)
    sampler.rearrange(np.arange(3), rows)
    scores = sampler.scores(logits.repeat(3, 1), np.array([4, 1, 0]), np.arange(3))
    for row, penalized in zip(scores, ([3, 4, 5], [7], []), strict=True):
        expected = logits.clone()
        expected[penalized] -= 0.75
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("min_p", [0.02, 0.3, 1.0])
def test_min_p_keeps_what_reaches_its_share_of_the_likeliest(logits: Tensor, min_p: float) -> None:
    scores = scores_of(SamplingParameters(min_p=min_p, temperature=0.7), [1], 0, logits)
    probabilities = (logits / 0.7).softmax(dim=0)
    kept = probabilities >= min_p * probabilities.max()
    assert torch.equal(scores > -torch.inf, kept)


@pytest.mark.parametrize("generated", [0, 2, 3])
def test_no_end_is_chosen_before_there_are_enough_tokens(logits: Tensor, generated: int) -> None:
    parameters = SamplingParameters(min_new_tokens=3, end_ids=frozenset({5, 6}))
    scores = scores_of(parameters, [1] * (generated + 1), generated, logits)
    assert torch.isinf(scores[[5, 6]]).tolist() == [generated < 3] * 2
    assert torch.isfinite(scores).sum() == VOCAB - 2 * (generated < 3)


def test_a_watermark_favours_the_half_that_the_last_token_chooses(logits: Tensor) -> None:
    scores = scores_of(SamplingParameters(watermark=True), [1, 7], 1, logits)
    chosen = favoured(7, VOCAB, torch.Generator())
    expected = logits.clone()
    expected[chosen] += BONUS
    torch.testing.assert_close(scores, expected)
    assert len(chosen) == VOCAB // 2
    assert set(chosen.tolist()) != set(favoured(8, VOCAB, torch.Generator()).tolist())
