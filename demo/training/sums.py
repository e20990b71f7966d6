"""Sums of two numbers below 100: which pairs the model may learn from, how a sum is asked, what is right."""

import hashlib
from collections.abc import Callable
from random import Random

LIMIT = 100
SUM_QUESTIONS = (
    "What is {a} + {b}?",
    "What is {a} + {b}?",
    "{a} + {b} = ",
    "{a} + {b} =",
    "{a} + {b}",
    "{a}+{b}=",
    "{a}+{b}",
    "Add {a} and {b}.",
    "What is {a} plus {b}?",
    "What's {a} + {b}?",
    "What is {a}+{b}?",
    "what is {a} + {b}",
    "Compute {a} + {b}.",
    "How much is {a} + {b}?",
    "Calculate {a} + {b}.",
    "What is the sum of {a} and {b}?",
    "Please add {a} and {b}.",
)
DIFFERENCE_QUESTIONS = (
    "What is {a} - {b}?",
    "{a} - {b} = ",
    "What is {a} minus {b}?",
    "How much is {a} - {b}?",
    "Subtract {b} from {a}.",
)

Pair = tuple[int, int]


def is_held_out(a: int, b: int) -> bool:
    """Whether {a, b} is one of the 10% of pairs never shown in training, in either order."""
    low, high = sorted((a, b))
    digest = hashlib.sha256(f"{low} and {high}".encode()).digest()
    return digest[0] * 256 + digest[1] < 65536 // 10


def held_out_pairs() -> list[Pair]:
    """Every ordered pair kept for evaluation."""
    return [(a, b) for a in range(LIMIT) for b in range(LIMIT) if is_held_out(a, b)]


def training_pair(rng: Random) -> Pair:
    """A pair the model may see. Small addends come more often than by chance, as users ask them more."""
    limits = rng.choices(((LIMIT, LIMIT), (LIMIT, 10), (10, LIMIT), (10, 10)), (80, 8, 8, 4))[0]
    while True:
        a, b = (rng.randrange(limit) for limit in limits)
        if not is_held_out(a, b):
            return a, b


def held_out_pair(rng: Random) -> Pair:
    """A pair the model has never seen."""
    while True:
        a, b = rng.randrange(LIMIT), rng.randrange(LIMIT)
        if is_held_out(a, b):
            return a, b


DrawPair = Callable[[Random], Pair]
