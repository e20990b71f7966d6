"""Draws by weight."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgi_shard.sampling.draw import _find, draw, draw_from_vocabulary

Draw = Callable[[Tensor, Tensor], Tensor]

ALMOST_ONE = 1 - 2.0**-53


def uniform(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("how", [draw, draw_from_vocabulary])
def test_each_index_owns_an_interval_as_long_as_its_weight(how: Draw) -> None:
    weights = torch.tensor([[0.5, 0.0, 1.0, 0.5]]).repeat(6, 1)
    drawn = how(weights, uniform(0.0, 0.249, 0.25, 0.749, 0.75, ALMOST_ONE))
    assert drawn.tolist() == [0, 0, 2, 2, 3, 3]


@pytest.mark.parametrize("how", [draw, draw_from_vocabulary])
@pytest.mark.parametrize("size", [1, 127, 128, 300, 1000])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_nothing_of_weight_zero_is_ever_drawn(how: Draw, size: int, data: st.DataObject) -> None:
    possible = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=8))
    number = data.draw(st.one_of(st.just(0.0), st.just(ALMOST_ONE), st.floats(0, 1, exclude_max=True)))
    weights = torch.zeros(1, size)
    for index in possible:
        weights[0, index] = data.draw(st.floats(2.0**-100, 1, width=32))
    assert how(weights, uniform(number)).item() in possible


def test_running_sums_that_rounding_made_uneven_do_not_draw_weight_zero() -> None:
    # Sums computed in parallel, as on a GPU, need not grow with the index.
    weights = torch.tensor([[1.0, 0.0, 1.0]])
    cumulative = torch.tensor([[1.0, 1.0 + 2**-52, 2.0]], dtype=torch.float64)
    assert _find(weights, cumulative, uniform(1.0)).item() == 2


def test_both_ways_agree_on_a_whole_vocabulary() -> None:
    torch.manual_seed(0)
    weights = (torch.randn(64, 50_257) * 3).softmax(-1)
    numbers = torch.rand(64, dtype=torch.float64)
    assert torch.equal(draw_from_vocabulary(weights, numbers), draw(weights, numbers))


def test_tiny_probabilities_keep_their_mass() -> None:
    weights = torch.full((1, 131_072), 1e-9)
    weights[0, 0] = 1.0
    mass_of_others = 131_071e-9
    just_inside = 1 - mass_of_others / (1 + mass_of_others) / 2  # half of the others lie before it
    drawn = draw_from_vocabulary(weights, uniform(just_inside)).item()
    assert drawn == pytest.approx(65_536, abs=64)


@pytest.mark.parametrize("how", [draw, draw_from_vocabulary])
def test_a_row_without_a_distribution_yields_an_index_in_range(how: Draw) -> None:
    assert 0 <= how(torch.full((1, 200), torch.nan), uniform(0.7)).item() < 200
    assert 0 <= how(torch.zeros(1, 200), uniform(0.7)).item() < 200
