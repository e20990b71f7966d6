"""The likeliest token of each row with its log-probability, straight from the model's logits."""

from typing import Protocol

import torch
from torch import Tensor

# Rows converted to float32 at once on a CPU: they are still in its cache when they are read again.
_ROWS_AT_ONCE = 4


class GreedyKernel(Protocol):
    """Computes greedy choices on one kind of device."""

    def __call__(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Choose for each row the token of the highest score, the lowest id among equals.

        A row's answer does not depend on the other rows.

        Args:
            logits: [rows, vocabulary], some or all rows of the model's own; not changed.

        Returns:
            Token ids, int64 [rows], and their log-softmax, float32 [rows]: NaN where the row has no
            distribution (its logits hold NaN or plus infinity, or are all minus infinity), with some id
            within the vocabulary.
        """
        ...


def torch_greedy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel that runs anywhere; see `GreedyKernel`."""
    if logits.device.type != "cpu":
        return _choose(logits.to(torch.float32))
    # Float32 copies of all rows at once would go to memory and back several times.
    starts = range(0, len(logits), _ROWS_AT_ONCE)
    parts = [_choose(logits[start : start + _ROWS_AT_ONCE].to(torch.float32)) for start in starts]
    if len(parts) == 1:
        return parts[0]
    return torch.cat([token_ids for token_ids, _ in parts]), torch.cat([logprobs for _, logprobs in parts])


def _choose(scores: Tensor) -> tuple[Tensor, Tensor]:
    if scores.device.type == "cpu":  # numpy finds the place in a twentieth of the time that torch takes
        token_ids = torch.from_numpy(scores.numpy().argmax(axis=-1))
    else:
        token_ids = scores.argmax(dim=-1)
    # log_softmax takes the rows one by one, also on several threads, so that neighbours change nothing.
    return token_ids, scores.log_softmax(dim=-1).gather(1, token_ids.unsqueeze(1)).squeeze(1)
