"""Greedy choices straight from the model's logits."""

import pytest
import torch
from torch import Tensor

from tgi_shard.sampling.greedy import torch_greedy


def random_logits(rows: int) -> Tensor:
    return torch.randn(rows, 1000, generator=torch.Generator().manual_seed(0)) * 4


@pytest.mark.parametrize("rows", [1, 3, 4, 11])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_likeliest_token_comes_with_its_logprob(rows: int, dtype: torch.dtype) -> None:
    logits = random_logits(rows).to(dtype)
    token_ids, logprobs = torch_greedy(logits)
    expected = logits.double().log_softmax(-1).max(-1)
    assert torch.equal(token_ids, expected.indices)
    assert (token_ids.dtype, logprobs.dtype) == (torch.int64, torch.float32)
    torch.testing.assert_close(logprobs.double(), expected.values, atol=2e-6, rtol=1e-6)


def test_the_lowest_id_among_equals_is_taken() -> None:
    logits = torch.zeros(6, 50)
    logits[:, [7, 30]] = 2
    assert torch_greedy(logits.bfloat16())[0].tolist() == [7] * 6


def test_a_rows_answer_is_the_same_to_the_bit_whatever_rows_are_beside_it() -> None:
    logits = random_logits(9).bfloat16()
    token_ids, logprobs = torch_greedy(logits)
    for row in range(9):
        alone_ids, alone_logprobs = torch_greedy(logits[row : row + 1])
        assert alone_ids[0] == token_ids[row]
        assert alone_logprobs[0] == logprobs[row]
