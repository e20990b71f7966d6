"""A watermark that statistics can show: half of the vocabulary, chosen by the token before, is favoured.

Kirchenbauer et al., 2023, "A Watermark for Large Language Models" (arXiv:2301.10226), with the constants of
TGI's server (utils/watermark.py) and its choice of the favoured half, so that what detects the one detects
the other.
"""

import torch
from torch import Tensor

from tgi_shard.sampling.history import History
from tgi_shard.sampling.indexing import Index

SHARE = 0.5
"""Part of the vocabulary that is favoured: the paper's gamma."""
BONUS = 2.0
"""What is added to the scores of its tokens: the paper's delta."""
HASH_KEY = 15_485_863


class Watermark:
    """Marks some rows.

    Args:
        columns: which columns of the history are theirs.
        vocab_size: width of the scores.
    """

    def __init__(self, columns: Index, vocab_size: int) -> None:
        self._columns = columns
        self._vocab_size = vocab_size
        # On the host, whatever the device of the scores: each kind of device has its own random numbers.
        self._generator = torch.Generator()

    def bonus(self, history: History) -> Tensor:
        """What to add to the scores: float32 [rows, vocabulary]."""
        latest = history.lines(self._columns, latest=1)
        bonus = torch.zeros(latest.shape[1], self._vocab_size)
        for row, token_id in enumerate(latest[0].tolist()):
            bonus[row, favoured(token_id, self._vocab_size, self._generator)] = BONUS
        return bonus.to(latest.device)


def favoured(token_id: int, vocab_size: int, generator: torch.Generator) -> Tensor:
    """The tokens that are favoured behind a token: int64 [share of the vocabulary]."""
    generator.manual_seed(HASH_KEY * token_id)
    return torch.randperm(vocab_size, generator=generator)[: int(vocab_size * SHARE)]
