"""The rules for what TGI's parameters have no words for, in OpenAI's and its peers' terms."""

from collections.abc import Collection

from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.refusal import refuse
from tgi_router.validation.request import Extensions

MAX_BIAS = 100.0
"""As OpenAI documents `logit_bias`: a token at either end is as good as banned, or chosen."""


def check_extensions(given: Extensions, max_new_tokens: int, vocab_size: int, limits: RequestLimits) -> None:
    """Everything but the grammar.

    Args:
        given: the wishes.
        max_new_tokens: the number of tokens to generate at most.
        vocab_size: token ids lie below it.
        limits: what a request may ask for.

    Raises:
        ValidationError: a rule is broken.
    """
    if not 0 <= given.min_p <= 1:
        refuse("`min_p` must be >= 0.0 and <= 1.0", "min_p")
    if not -2 <= given.presence_penalty <= 2:
        refuse("`presence_penalty` must be >= -2.0 and <= 2.0", "presence_penalty")
    if given.min_new_tokens > max_new_tokens:
        refuse(
            f"`min_tokens` must be <= the number of tokens to generate at most, {max_new_tokens}. "
            f"Given: {given.min_new_tokens}",
            "min_tokens",
        )
    if given.prefill_top_n_tokens > limits.max_top_n_tokens:
        allowed = limits.max_top_n_tokens
        refuse(f"`logprobs` must be >= 0 and <= {allowed}. Given: {given.prefill_top_n_tokens}", "logprobs")
    _check_count(given.stop_token_ids, limits, "stop_token_ids")
    check_token_ids(given.stop_token_ids, vocab_size, "stop_token_ids")
    _check_count(given.token_bias, limits, "logit_bias")
    check_token_ids(given.token_bias, vocab_size, "logit_bias")
    for bias in given.token_bias.values():
        if abs(bias) > MAX_BIAS:
            refuse(f"`logit_bias` values must be >= -100 and <= 100. Given: {bias:g}", "logit_bias")


def check_token_ids(ids: Collection[int], vocab_size: int, parameter: str) -> None:
    """Refuse ids that the vocabulary does not have.

    Raises:
        ValidationError: naming the first.
    """
    unknown = next((each for each in ids if not 0 <= each < vocab_size), None)
    if unknown is not None:
        refuse(
            f"`{parameter}` has the token id {unknown}; the vocabulary's go from 0 to {vocab_size - 1}",
            parameter,
        )


def _check_count(given: Collection[int], limits: RequestLimits, parameter: str) -> None:
    allowed = limits.max_biased_tokens
    if len(given) > allowed:
        refuse(f"`{parameter}` supports up to {allowed} tokens. Given: {len(given)}", parameter)
