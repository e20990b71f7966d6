"""Which of several answers is the best one."""

import math

import pytest

from support.http_bench import events
from tgi_router.generation import EndEvent, SamplingParameters, StoppingParameters, ValidRequest
from tgi_router.http.answers import Answer, split_best

REQUEST = ValidRequest("x", [1], True, 1, SamplingParameters(), StoppingParameters(1))


def answer(*logprobs: float) -> Answer:
    tokens = [event.token for event in events(*"a" * len(logprobs))]
    tokens = [
        type(token)(token.id, token.text, logprob)
        for token, logprob in zip(tokens[: len(logprobs)], logprobs, strict=True)
    ]
    end = events("a")[-1]
    assert isinstance(end, EndEvent)
    return Answer(REQUEST, [], tokens, [[]] * len(tokens), end, 0.0)


@pytest.mark.parametrize(
    ("means", "winner"),
    [
        ([[-1.0], [-0.5], [-2.0]], 1),
        ([[-0.5, -0.5], [-0.4, -0.7]], 0),
        ([[-0.5], [-0.5]], 0),
        ([[-0.5], [math.nan]], 0),
        ([[math.nan], [-9.0]], 1),
        ([[math.nan], [math.nan]], 0),
    ],
)
def test_the_highest_mean_wins_and_the_earlier_of_equals(means: list[list[float]], winner: int) -> None:
    answers = [answer(*logprobs) for logprobs in means]
    best, others = split_best(answers)
    assert best is answers[winner]
    assert others == answers[:winner] + answers[winner + 1 :]
