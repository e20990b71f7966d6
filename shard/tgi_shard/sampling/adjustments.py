"""What is done to scores before a token is chosen: biases, watermarks, no early end, penalties."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tgi_shard.sampling.history import History
from tgi_shard.sampling.indexing import Positions, as_index
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.sampling.penalties import Penalties
from tgi_shard.sampling.row import RowTable
from tgi_shard.sampling.watermark import Watermark


class Adjustments:
    """The adjustments of some rows of a batch; each does nothing where no row asks for it.

    Args:
        rows: the table of [rows].
        parameters: of each of them.
        columns: [rows], which column of the history is each row's, where it looks back.
        vocab_size: width of the scores.
        device: of the scores and the history.
    """

    def __init__(
        self,
        rows: RowTable,
        parameters: Sequence[SamplingParameters],
        columns: Positions,
        vocab_size: int,
        device: torch.device,
    ) -> None:
        biased = any(each.token_bias for each in parameters)
        bounded = any(each.min_new_tokens for each in parameters)
        marked = np.flatnonzero(rows["watermark"])
        self._biases = _Biases(parameters, vocab_size, device) if biased else None
        self._early_ends = _EarlyEnds(parameters, vocab_size, device) if bounded else None
        self._watermarked = as_index(marked, device) if len(marked) else None
        self._watermark = Watermark(as_index(columns[marked], device), vocab_size) if len(marked) else None
        self._penalties = Penalties(rows, columns, vocab_size, device)

    def apply_(self, scores: Tensor, generated: Positions, history: History) -> None:
        """Adjust in place.

        Args:
            scores: float32 [rows, vocabulary], contiguous.
            generated: [rows], how many tokens each row has generated.
            history: of the whole batch.
        """
        if self._biases is not None:
            self._biases.apply_(scores.view(-1))
        if self._watermark is not None:
            scores[self._watermarked] += self._watermark.bonus(history)
        if self._early_ends is not None:
            self._early_ends.apply_(scores.view(-1), generated)
        self._penalties.apply_(scores, generated, history)


class _Biases:
    """Numbers that are added to the scores of tokens."""

    def __init__(
        self, parameters: Sequence[SamplingParameters], vocab_size: int, device: torch.device
    ) -> None:
        entries = [
            (row * vocab_size + token_id, bias)
            for row, each in enumerate(parameters)
            for token_id, bias in each.token_bias.items()
        ]
        self._places = torch.tensor([place for place, _ in entries], dtype=torch.int64, device=device)
        self._values = torch.tensor([bias for _, bias in entries], dtype=torch.float32, device=device)

    def apply_(self, flat: Tensor) -> None:
        flat.index_add_(0, self._places, self._values)  # no place occurs twice


class _EarlyEnds:
    """Keeps tokens that would end a text from being chosen before there are enough."""

    def __init__(
        self, parameters: Sequence[SamplingParameters], vocab_size: int, device: torch.device
    ) -> None:
        bounded = [row for row, each in enumerate(parameters) if each.min_new_tokens]
        counts = [len(parameters[row].end_ids) for row in bounded]
        ends = [
            row * vocab_size + token_id for row in bounded for token_id in sorted(parameters[row].end_ids)
        ]
        # One entry for each token that may not come yet.
        self._rows = np.repeat(np.array(bounded, dtype=np.int64), counts)
        self._least = np.array([each.min_new_tokens for each in parameters], dtype=np.int64)
        self._places = torch.tensor(ends, dtype=torch.int64, device=device)

    def apply_(self, flat: Tensor, generated: Positions) -> None:
        early = (generated < self._least)[self._rows]
        if early.any():
            flat.index_fill_(0, self._places[torch.from_numpy(early).to(flat.device)], -torch.inf)
