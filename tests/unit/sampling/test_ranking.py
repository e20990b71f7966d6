"""The order of tokens, which must be the same however it is computed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgi_shard.sampling.ranking import _ranked_by_numpy, _ranked_by_torch

values = st.one_of(
    st.floats(width=32, allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, torch.inf, -torch.inf]),
)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_numpy_ranks_as_torch_does_and_equal_scores_by_id(columns: list[tuple[float, float]]) -> None:
    scores = torch.tensor(columns).T.contiguous()
    expected, expected_ids = _ranked_by_torch(scores, len(columns))
    ranked, ids = _ranked_by_numpy(scores, len(columns))
    assert torch.equal(ids, expected_ids)
    assert torch.equal(ranked, expected)


@pytest.mark.parametrize("width", [1, 7, 299])
def test_a_part_agrees_with_the_whole_above_its_last_score(width: int) -> None:
    scores = (torch.randn(5, 300, generator=torch.Generator().manual_seed(0)) * 3).round()  # many ties
    whole, whole_ids = _ranked_by_numpy(scores, 300)
    part, ids = _ranked_by_numpy(scores, width)
    assert torch.equal(part, whole[:, :width])
    above = part > part[:, -1:]
    assert torch.equal(ids[above], whole_ids[:, :width][above])


def test_a_strided_view_is_ranked_as_its_values() -> None:
    scores = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_ranked_by_numpy(scores[:, ::2], 4)[1], _ranked_by_torch(scores[:, ::2], 4)[1])
