"""What the sampler is told of one row of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from tgi_shard.sampling.parameters import SamplingParameters


@dataclass(frozen=True, slots=True)
class SamplerRow:
    """One request, as it stands when a sampler is built.

    Attributes:
        token_ids: the prompt and what was generated so far; at least one token, all within the vocabulary.
        prompt_length: how many of `token_ids` are the prompt's.
    """

    parameters: SamplingParameters
    token_ids: Sequence[int]
    prompt_length: int
