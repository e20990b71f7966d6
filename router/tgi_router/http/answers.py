"""A generation gathered to its end, for routes that answer in one piece."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tgi_router.generation import (
    EndEvent,
    IncompleteGenerationError,
    PrefillEvent,
    Token,
    ValidRequest,
)
from tgi_router.infer import GenerationStream


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished generation.

    Attributes:
        prefill: the prompt's tokens and the likeliest ones in their places, as far as they were asked for.
        tokens: what was generated, the last token included.
        top_tokens: for each of them the likeliest tokens in its place; empty ones if not asked for.
        end: the sum of it.
        finished_at: when it ended, `time.monotonic()` seconds.
    """

    request: ValidRequest
    prefill: PrefillEvent
    tokens: Sequence[Token]
    top_tokens: Sequence[Sequence[Token]]
    end: EndEvent
    finished_at: float

    @property
    def mean_logprob(self) -> float:
        """How sure the model was, on average over the tokens."""
        return math.fsum(token.logprob for token in self.tokens) / len(self.tokens)


async def gather(request: ValidRequest, stream: GenerationStream) -> Answer:
    """Take every event of a generation.

    Raises:
        InferenceError: the generation failed.
    """
    prefill = PrefillEvent([])
    tokens: list[Token] = []
    top_tokens: list[Sequence[Token]] = []
    while events := await stream.take():
        for event in events:
            if isinstance(event, PrefillEvent):
                prefill = event
                continue
            tokens.append(event.token)
            top_tokens.append(event.top_tokens)
            if isinstance(event, EndEvent):
                return Answer(request, prefill, tokens, top_tokens, event, time.monotonic())
    raise IncompleteGenerationError("Incomplete generation")


def best_first(answers: Sequence[Answer]) -> list[Answer]:
    """The answers by their mean log-probability, the highest first.

    The earlier one wins a tie, and a mean that is not a number never wins, as in TGI.
    """
    return sorted(
        answers, key=lambda answer: math.inf if math.isnan(answer.mean_logprob) else -answer.mean_logprob
    )


def split_best(answers: Sequence[Answer]) -> tuple[Answer, list[Answer]]:
    """The best answer, and the others in order."""
    best = best_first(answers)[0]
    return best, [answer for answer in answers if answer is not best]
