"""What the sampler knows of the rows of a batch: told one by one, kept as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from tgi_shard.sampling.parameters import SamplingParameters

RowTable = npt.NDArray[np.void]
"""One record of `RECORD` for each row."""

RECORD = np.dtype(
    [
        ("way", np.int8),
        ("temperature", np.float32),
        ("top_k", np.int64),
        ("top_p", np.float64),
        ("typical_p", np.float64),
        ("min_p", np.float64),
        ("seed", np.uint64),
        ("repetition_penalty", np.float32),
        ("frequency_penalty", np.float32),
        ("presence_penalty", np.float32),
        ("watermark", np.bool_),
        ("looks_back", np.bool_),
    ],
    align=True,  # torch takes columns only of whole steps
)

_COPIED = (
    "top_k",
    "top_p",
    "typical_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "watermark",
)

# Below this, dividing by the temperature could overflow; at it, the likeliest token is already the only one.
_LOWEST_TEMPERATURE = 1e-30


class Way(IntEnum):
    """How a token is chosen."""

    GREEDY = 0
    """The likeliest by the model's own logits."""
    ADJUSTED_GREEDY = 1
    """The likeliest by scores that were adjusted."""
    FULL_DRAW = 2
    """Drawn from the whole vocabulary."""
    TRUNCATED_DRAW = 3
    """Drawn from what top_k, top_p, min_p and typical_p leave."""


@dataclass(frozen=True, slots=True)
class SamplerRow:
    """One request, as it stands when it joins.

    Attributes:
        token_ids: the prompt and what was generated so far; at least one token, all within the vocabulary.
    """

    parameters: SamplingParameters
    token_ids: Sequence[int]


def tabulate(rows: Sequence[SamplerRow]) -> RowTable:
    """The parameters of some rows as a table."""
    table = np.zeros(len(rows), dtype=RECORD)
    for record, parameters in zip(table, (row.parameters for row in rows), strict=True):
        for name in _COPIED:
            record[name] = getattr(parameters, name)
        record["way"] = _way(parameters)
        record["temperature"] = max(parameters.temperature, _LOWEST_TEMPERATURE)
        record["seed"] = parameters.seed & (2**64 - 1)
        record["looks_back"] = parameters.looks_back
    return table


def _way(parameters: SamplingParameters) -> Way:
    if parameters.truncates:
        return Way.TRUNCATED_DRAW
    if parameters.samples:
        return Way.FULL_DRAW
    return Way.ADJUSTED_GREEDY if parameters.adjusts else Way.GREEDY
