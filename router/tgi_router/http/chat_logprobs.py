"""Log-probabilities in the shape of /v1/chat/completions."""

from collections.abc import Iterable, Sequence

from tgi_router.generation import Token
from tgi_router.schema.chat import Logprobs, TokenLogprob, TopLogprob
from tgi_router.schema.numbers import shorten_f32


def logprobs(tokens: Iterable[tuple[Token, Sequence[Token]]]) -> Logprobs:
    """Log-probabilities of tokens, each with the likeliest ones in its place."""
    return Logprobs(
        [
            TokenLogprob(
                token=token.text,
                logprob=shorten_f32(token.logprob),
                bytes=list(token.text.encode()),
                top_logprobs=[
                    TopLogprob(top.text, shorten_f32(top.logprob), list(top.text.encode())) for top in tops
                ],
            )
            for token, tops in tokens
        ]
    )
