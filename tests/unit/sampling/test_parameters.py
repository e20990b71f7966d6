"""Which requests sample, and which parameters are refused."""

import math

import pytest

from tgi_shard.sampling.parameters import SamplingParameters


def test_the_defaults_are_greedy_and_neutral() -> None:
    parameters = SamplingParameters()
    assert not parameters.samples
    assert not parameters.truncates


@pytest.mark.parametrize(
    "asked", [{"do_sample": True}, {"temperature": 0.7}, {"top_k": 1}, {"top_p": 0.9}, {"typical_p": 0.9}]
)
def test_any_parameter_of_the_draw_turns_sampling_on(asked: dict[str, float]) -> None:
    assert SamplingParameters(**asked).samples


def test_penalties_alone_stay_greedy() -> None:
    assert not SamplingParameters(repetition_penalty=1.2, frequency_penalty=0.5).samples


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_p", math.nan),
        ("typical_p", 0.0),
        ("typical_p", -0.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
        ("frequency_penalty", math.nan),
        ("frequency_penalty", -math.inf),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*; it must be "):
        SamplingParameters(**{name: value})
