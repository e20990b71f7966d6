"""A part of a batch: rows whose tokens are chosen in the same way, and not too many of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgi_shard.sampling.adjustments import Adjustments
from tgi_shard.sampling.choosers import Chooser, Chosen, make_chooser
from tgi_shard.sampling.greedy import GreedyKernel
from tgi_shard.sampling.history import History
from tgi_shard.sampling.indexing import Index, Positions, as_index
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.sampling.row import RowTable, Way

# Scores that are worked on at once on a CPU. Fewer would take more operations, each with a cost of its own;
# more are slow buffers, which the system hands out and takes back each time.
_SCORES_AT_ONCE = 2**21


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a batch.

    Attributes:
        rows: which, ascending, on the host.
        index: the same on the device.
        adjustments: None where the model's own logits are chosen by, unchanged.
    """

    rows: Positions
    index: Index
    chooser: Chooser
    adjustments: Adjustments | None

    def choose(self, logits: Tensor, generated: Positions, history: History) -> Chosen:
        """Choose one token per row; arguments are the whole batch's."""
        return self.chooser.choose(self._scores(logits, generated, history), generated[self.rows])

    def process(self, logits: Tensor, generated: Positions, history: History) -> Tensor:
        """The scores that `choose` chooses by: [rows, vocabulary], minus infinity for what is cut."""
        return self.chooser.process(self._scores(logits, generated, history))

    def _scores(self, logits: Tensor, generated: Positions, history: History) -> Tensor:
        own = logits[self.index]
        if self.adjustments is None:
            return own
        scores = torch.empty(own.shape, dtype=torch.float32, device=own.device).copy_(own)
        self.adjustments.apply_(scores, generated[self.rows], history)
        return scores


def divide(
    rows: RowTable,
    parameters: Sequence[SamplingParameters],
    vocab_size: int,
    greedy: GreedyKernel,
    device: torch.device,
) -> Iterator[Part]:
    """Divide a batch into parts that cover it."""
    columns = rows["looks_back"].cumsum() - 1
    most = max(1, _SCORES_AT_ONCE // vocab_size) if device.type == "cpu" else len(rows)
    for way in sorted(set(rows["way"].tolist())):
        members = np.flatnonzero(rows["way"] == way)
        if way == Way.GREEDY:  # a kernel for this divides them itself
            chooser = make_chooser(way, rows[members], vocab_size, greedy, device)
            yield Part(members, as_index(members, device), chooser, None)
            continue
        for start in range(0, len(members), most):
            some = members[start : start + most]
            yield Part(
                some,
                as_index(some, device),
                make_chooser(way, rows[some], vocab_size, greedy, device),
                Adjustments(rows[some], [parameters[row] for row in some], columns[some], vocab_size, device),
            )
