"""From what a request says about sampling to what the shards are told: every default filled in."""

import secrets

from tgi_common.grammar import Grammar
from tgi_router.generation import SamplingParameters
from tgi_router.schema.generate import GenerateParameters
from tgi_router.validation.request import Extensions


def asks_for_sampling(given: GenerateParameters) -> bool:
    """Whether any parameter that only sampling reads was given."""
    sampling = (given.temperature, given.top_k, given.top_p, given.typical_p)
    return given.do_sample or any(value is not None for value in sampling)


def resolve_sampling(
    given: GenerateParameters, extensions: Extensions, *, grammar: Grammar | None
) -> SamplingParameters:
    """All defaults filled in; a random seed where none was given.

    Values are not yet rounded to 32 bits; the contract does that on the way out.
    """
    temperature = 1.0 if given.temperature is None else given.temperature
    top_k = given.top_k or 0
    top_p = 1.0 if given.top_p is None else given.top_p
    typical_p = 1.0 if given.typical_p is None else given.typical_p
    return SamplingParameters(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        typical_p=typical_p,
        # A neutral value given by name changes nothing, as in TGI's shards (utils/tokens.py).
        do_sample=given.do_sample or temperature != 1 or top_k != 0 or top_p < 1 or typical_p < 1,
        seed=secrets.randbits(64) if given.seed is None else given.seed,
        repetition_penalty=1.0 if given.repetition_penalty is None else given.repetition_penalty,
        frequency_penalty=given.frequency_penalty or 0.0,
        watermark=given.watermark,
        min_p=extensions.min_p,
        presence_penalty=extensions.presence_penalty,
        token_bias=extensions.token_bias,
        grammar=grammar,
    )
