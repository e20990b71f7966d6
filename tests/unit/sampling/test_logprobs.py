"""Log-probabilities and top tokens."""

import math

import pytest
import torch

from tgi_shard.sampling.logprobs import MAX_EXTRA_TIES, token_logprobs, top_tokens

TGI_EXAMPLE = [-1.0, -3.0, -4.0, -2.0, -3.0]


def test_token_logprobs_are_those_of_the_log_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 50)
    targets = torch.tensor([0, 7, 49, 7])
    expected = [logits[i].double().log_softmax(0)[targets[i]].item() for i in range(4)]
    logprobs = token_logprobs(logits, targets)
    assert logprobs.dtype == torch.float32
    assert logprobs.tolist() == pytest.approx(expected, abs=1e-6)
    assert token_logprobs(logits.bfloat16(), targets).tolist() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (2, [0, 3]), (3, [0, 3, 1, 4]), (4, [0, 3, 1, 4]), (5, [0, 3, 1, 4, 2])]
)
def test_tokens_equal_to_the_nth_are_returned_as_tgi_does(count: int, expected: list[int]) -> None:
    ids, logprobs = top_tokens(torch.tensor([TGI_EXAMPLE]), [count])
    assert ids == [expected]
    normalizer = math.log(sum(map(math.exp, TGI_EXAMPLE)))
    assert logprobs[0] == pytest.approx([TGI_EXAMPLE[i] - normalizer for i in expected], abs=1e-6)


def test_rows_ask_for_different_numbers() -> None:
    ids, _ = top_tokens(torch.tensor([TGI_EXAMPLE] * 4), [0, 5, 2, 3])
    assert ids == [[], [0, 3, 1, 4, 2], [0, 3], [0, 3, 1, 4]]


def test_more_than_the_vocabulary_is_the_vocabulary() -> None:
    ids, _ = top_tokens(torch.tensor([TGI_EXAMPLE]), [100])
    assert ids == [[0, 3, 1, 4, 2]]


def test_tokens_cut_from_the_distribution_are_not_returned() -> None:
    ids, logprobs = top_tokens(torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0]]), [3])
    assert ids == [[3, 1]]
    assert all(map(math.isfinite, logprobs[0]))


def test_the_ties_of_a_flat_row_are_bounded_and_the_lowest_ids_win() -> None:
    scores = torch.zeros(2, 20_000)
    scores[1, 19_999] = 1.0
    ids, _ = top_tokens(scores, [5, 2])
    assert ids[0] == list(range(5 + MAX_EXTRA_TIES))
    assert ids[1] == [19_999, *range(1 + MAX_EXTRA_TIES)]


def test_the_answer_for_a_row_does_not_depend_on_what_others_ask() -> None:
    torch.manual_seed(1)
    scores = torch.randn(3, 1000).bfloat16().float()  # many ties
    together = top_tokens(scores, [4, 50, 1])
    alone = [top_tokens(scores[i, None], [n]) for i, n in enumerate((4, 50, 1))]
    assert together[0] == [ids[0] for ids, _ in alone]
    assert together[1] == [logprobs[0] for _, logprobs in alone]
