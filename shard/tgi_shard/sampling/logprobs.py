"""Log-probabilities of given tokens, and the most likely tokens."""

import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from tgi_shard.sampling.ranking import best_first

# Tokens equal to the n-th are returned beyond n; this many at most, since a flat row is all ties.
MAX_EXTRA_TIES = 16


def token_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of one token in each row.

    Args:
        logits: any float type, [n, vocabulary].
        targets: int64 [n].

    Returns:
        float32 [n].
    """
    logprobs = logits.to(torch.float32).log_softmax(dim=-1)
    return logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def top_tokens(scores: Tensor, counts: Sequence[int]) -> tuple[list[list[int]], list[list[float]]]:
    """The likeliest tokens of each row and their log-probabilities, best first, equal ones by token id.

    As TGI's `batch_top_tokens` (server utils/tokens.py): tokens equal to the n-th are returned too, of which
    at most `MAX_EXTRA_TIES`; tokens at minus infinity are not, so there can be fewer than n.

    Args:
        scores: float [rows, vocabulary]; log-probabilities up to a constant in each row.
        counts: how many each row asks for; 0 for none.

    Returns:
        For each row, token ids and log-probabilities.
    """
    ids: list[list[int]] = [[] for _ in counts]
    logprobs: list[list[float]] = [[] for _ in counts]
    asking = [row for row, count in enumerate(counts) if count > 0]
    if not asking:
        return ids, logprobs
    vocab_size = scores.shape[-1]
    normalized = scores[torch.tensor(asking, device=scores.device)].to(torch.float32).log_softmax(dim=-1)
    width = min(max(counts) + MAX_EXTRA_TIES + 1, vocab_size)
    best, best_ids = _ranked(normalized, width)
    for place, row in enumerate(asking):
        count = min(counts[row], vocab_size)
        if -math.inf < best[place][count - 1] == best[place][-1]:
            # The ties reach beyond what was ranked: rank all, to return the first of them.
            (best[place],), (best_ids[place],) = _ranked(normalized[place, None], vocab_size)
        # Tokens that were cut from the distribution, at minus infinity, are not returned.
        lowest = max(best[place][count - 1], -sys.float_info.max)
        returned = sum(logprob >= lowest for logprob in best[place][: count + MAX_EXTRA_TIES])
        ids[row], logprobs[row] = best_ids[place][:returned], best[place][:returned]
    return ids, logprobs


def _ranked(scores: Tensor, width: int) -> tuple[list[list[float]], list[list[int]]]:
    values, ids = best_first(scores, width)
    return values.tolist(), ids.tolist()
