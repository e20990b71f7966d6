"""Log-probabilities in the shape of /v1/completions: lists side by side."""

import math
from collections.abc import Sequence

from tgi_router.generation import PrefillEvent, Token
from tgi_router.schema.completions import CompletionLogprobs
from tgi_router.schema.numbers import shorten_f32


class LogprobWriter:
    """Writes the tokens of one text, or of one piece of it after the other.

    Args:
        with_top_tokens: whether the likeliest tokens are told, too.
    """

    def __init__(self, *, with_top_tokens: bool) -> None:
        self._with_top_tokens = with_top_tokens
        self._offset = 0
        self._written = self._empty()

    def add(self, token: Token, top_tokens: Sequence[Token]) -> None:
        """Add a token behind those before it."""
        written = self._written
        written.tokens.append(token.text)
        written.token_logprobs.append(_number(token.logprob))
        written.text_offset.append(self._offset)
        if written.top_logprobs is not None:
            written.top_logprobs.append(_by_text(token, top_tokens))
        self._offset += len(token.text)

    def add_prompt(self, prompt: PrefillEvent) -> None:
        """Add the tokens of the prompt."""
        tops = prompt.top_tokens or [()] * len(prompt.tokens)
        for token, top_tokens in zip(prompt.tokens, tops, strict=True):
            self.add(token, top_tokens)

    def take(self) -> CompletionLogprobs:
        """What was added since the last time."""
        taken, self._written = self._written, self._empty()
        return taken

    def _empty(self) -> CompletionLogprobs:
        return CompletionLogprobs([], [], [] if self._with_top_tokens else None, [])


def _by_text(token: Token, top_tokens: Sequence[Token]) -> dict[str, float] | None:
    """The likeliest tokens and the one that was taken; null where nothing is known of them."""
    if math.isnan(token.logprob):
        return None
    # Where several tokens have the same text, the likeliest of them is told.
    return {top.text: shorten_f32(top.logprob) for top in (token, *reversed(top_tokens))}


def _number(logprob: float) -> float | None:
    return None if math.isnan(logprob) else shorten_f32(logprob)
