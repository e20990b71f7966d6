"""Which tokens are allowed, worked out beside the forward pass and applied to its logits."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from llguidance import LLExecutor
from llguidance.numpy import (
    allocate_token_bitmask,
    fill_next_token_bitmask,
    fill_next_token_bitmask_par,
)
from torch import Tensor

from tgi_shard.grammar.matcher import GrammarMatcher
from tgi_shard.sampling.indexing import Positions, as_index

_BITS_OF_A_BYTE = 2 ** np.arange(8, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class TokenMasks:
    """The allowed tokens of some rows of logits.

    Attributes:
        rows: which, ascending, one at least.
        bits: int32 [rows, vocabulary / 32, rounded up], a bit for each token from the lowest on.
    """

    rows: Positions
    bits: npt.NDArray[np.int32]

    def apply_(self, logits: Tensor) -> None:
        """Set what is not allowed to minus infinity, in place; other rows stay as they are.

        Args:
            logits: any float type, [all rows, vocabulary].
        """
        packed = torch.from_numpy(self.bits.view(np.uint8)).to(logits.device)
        ones = torch.from_numpy(_BITS_OF_A_BYTE).to(logits.device)
        forbidden = (packed.unsqueeze(-1) & ones).view(len(packed), -1)[:, : logits.shape[1]] == 0
        index = as_index(self.rows, logits.device)
        logits[index] = logits[index].masked_fill_(forbidden, -torch.inf)


class MaskWorker:
    """A thread that works masks out, llguidance's own threads helping it.

    One at a time: a mask that nobody waits for any more, since a step has failed, comes before the next one.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grammar-masks")

    def begin(self, matchers: Sequence[GrammarMatcher], rows: Positions) -> Future[TokenMasks]:
        """Start on the masks of some rows; nothing may advance the matchers before they are done.

        Args:
            matchers: one for each row, all of one vocabulary; one at least.
            rows: places of their logits, ascending.
        """
        return self._thread.submit(lambda: TokenMasks(rows, self._fill(matchers)))

    @cached_property
    def _executor(self) -> LLExecutor:
        return LLExecutor()

    def _fill(self, matchers: Sequence[GrammarMatcher]) -> npt.NDArray[np.int32]:
        bits = allocate_token_bitmask(len(matchers), matchers[0].grammar.vocab_size)
        places = [(matcher.state, place) for place, matcher in enumerate(matchers)]
        fill_next_token_bitmask_par(self._executor, places, bits)
        for place, matcher in enumerate(matchers):
            if matcher.state.is_error():
                # If this fails too, the mask allows the end of the text, and the matcher does not take it.
                matcher.renew()
                fill_next_token_bitmask(matcher.state, bits, place)
        return bits
