"""The uniform numbers: equal everywhere, unrelated to each other."""

from collections.abc import Iterable

import numpy as np
import torch

from tgi_shard.sampling.random import UniformStreams

CPU = torch.device("cpu")
MASK = 2**64 - 1


def streams(*seeds: int) -> UniformStreams:
    return UniformStreams(np.array(seeds, dtype=np.uint64), CPU)


def positions(numbers: Iterable[int]) -> np.ndarray:
    return np.array(list(numbers), dtype=np.int64)


def splitmix64(state: int) -> int:
    """Steele, Lea and Flood's reference output for one state, in unbounded integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_the_numbers_are_splitmix64s() -> None:
    # The first outputs of SplitMix64 for the state 1234567, as published with its reference code.
    assert splitmix64((1234567 + 0x9E3779B97F4A7C15) & MASK) == 6457827717110365317
    for seed in (0, 1, 1234567, 2**63, 2**64 - 1):
        for position in (0, 1, 1000, 2**40):
            state = (splitmix64(seed) + (position + 1) * 0x9E3779B97F4A7C15) & MASK
            expected = (splitmix64(state) >> 11) / 2**53
            assert streams(seed).at(positions([position])).item() == expected


def test_a_stream_does_not_depend_on_its_neighbours() -> None:
    together = streams(3, 4, 5).at(positions([7, 0, 9]))
    alone = [streams(s).at(positions([p])).item() for s, p in ((3, 7), (4, 0), (5, 9))]
    assert together.tolist() == alone


def test_numbers_are_uniform_over_positions_and_over_seeds() -> None:
    count, bins = 20_000, 100
    over_positions = streams(*[42] * count).at(np.arange(count))
    over_seeds = streams(*range(count)).at(positions([0] * count))
    for numbers in (over_positions, over_seeds):
        assert numbers.min() >= 0
        assert numbers.max() < 1
        observed = torch.histc(numbers, bins, 0, 1)
        chi_square = ((observed - count / bins) ** 2 / (count / bins)).sum().item()
        assert chi_square < 161  # 99.99% of chi-square with 99 degrees of freedom
        successive = torch.corrcoef(torch.stack([numbers[:-1], numbers[1:]]))[0, 1].item()
        assert abs(successive) < 0.03
