"""Prefill attention by torch operations: one prompt chunk of one sequence."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

QUERIES_PER_MASK = 256
"""Queries that share one mask: it bounds the mask's memory to this times the context length."""


@dataclass(frozen=True, slots=True)
class PromptChunk:
    """Tokens `start` to `stop` of a step: consecutive positions of one sequence, behind `prefix` cached ones.

    Attributes:
        slots: [prefix + stop - start] int64, where the sequence's keys are, its own included.
    """

    start: int
    stop: int
    prefix: int
    slots: Tensor

    def attend(
        self,
        step: tuple[Tensor, Tensor, Tensor],
        cached: tuple[Tensor, Tensor],
        window: int | None,
        scale: float,
    ) -> Tensor:
        """Attend the chunk's queries causally: [stop - start, heads, head_dim].

        Args:
            step: query, key and value of the whole step, [tokens, heads or kv_heads, head_dim].
            cached: keys and values of the cache, [slots, kv_heads, head_dim]; the step's are already there.
            window: how many positions back a query sees; None for all.
            scale: factor on the scores.
        """
        query, key, value = (tensor[self.start : self.stop].transpose(0, 1)[None] for tensor in step)
        context = len(self.slots)
        if self.prefix == 0 and (window is None or window >= context):
            attended = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=scale, enable_gqa=True
            )
        else:
            first = 0 if window is None else max(0, self.prefix - window + 1)
            if self.prefix > 0:
                slots = self.slots[first:]
                key, value = (tensor.index_select(0, slots).transpose(0, 1)[None] for tensor in cached)
            attended = self._attend_masked(query, key, value, first, window, scale)
        return attended[0].transpose(0, 1)

    def _attend_masked(
        self, query: Tensor, key: Tensor, value: Tensor, first: int, window: int | None, scale: float
    ) -> Tensor:
        """Attend some queries at a time, each time only to the keys that these can see.

        Args:
            query: [1, heads, queries, head_dim], at positions from `prefix` on.
            key: [1, kv_heads, keys, head_dim], at positions from `first` on.
            value: as `key`.
            first: position of the first key.
            window: as in `attend`.
            scale: as in `attend`.
        """
        attended = []
        for start in range(0, query.shape[2], QUERIES_PER_MASK):
            queries = query[:, :, start : start + QUERIES_PER_MASK]
            begin = self.prefix + start
            end = begin + queries.shape[2]
            oldest = first if window is None else max(first, begin - window + 1)
            query_positions = torch.arange(begin, end, device=query.device)[:, None]
            key_positions = torch.arange(oldest, end, device=query.device)[None, :]
            seen = key_positions <= query_positions
            if window is not None:
                seen &= key_positions > query_positions - window
            visible = slice(oldest - first, end - first)
            attended.append(
                functional.scaled_dot_product_attention(
                    queries,
                    key[:, :, visible],
                    value[:, :, visible],
                    attn_mask=seen,
                    scale=scale,
                    enable_gqa=True,
                )
            )
        return torch.cat(attended, dim=2)
