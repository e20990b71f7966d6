"""One forward pass over the flat tokens of a batch, and the draw of the next tokens."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tgi_shard.attention.metadata import AttentionMetadata, pad_block_tables
from tgi_shard.cache.paged import KVCache
from tgi_shard.engine.sequence import Sequence
from tgi_shard.models.causal_lm import CausalLM
from tgi_shard.sampling.logprobs import token_logprobs, top_tokens
from tgi_shard.sampling.sampler import BatchSampler, Sampled, SamplerRow

# Rows of prompt logits held at once: the whole prompt's would be length * vocabulary floats.
PROMPT_LOGITS_ROWS = 256


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens drawn in one step; all lists run along `sequences`, those that reached their last token.

    Attributes:
        prompt_logprobs: for each request id that asked, the log-probabilities of the prompt tokens that
            this step's logits predict.
    """

    sequences: list[Sequence]
    token_ids: list[int]
    logprobs: list[float]
    top_ids: list[list[int]]
    top_logprobs: list[list[float]]
    prompt_logprobs: dict[int, list[float]]


class ModelRunner:
    """Runs steps. Reads sequences and never changes them, so that a step that fails can be repeated.

    The sampler and the block tables are kept from step to step while the rows stay the same.
    """

    def __init__(self, model: CausalLM, cache: KVCache, device: torch.device) -> None:
        self._model = model
        self._cache = cache
        self._device = device
        self._sampler: BatchSampler | None = None
        self._sampler_rows: list[Sequence] = []
        self._tables: Tensor | None = None
        self._table_rows: list[Sequence] = []

    @torch.inference_mode()
    def run(self, sequences: list[Sequence]) -> Drawn:
        """Compute each sequence's next `query_length` tokens and draw one for those that reach their end."""
        metadata = AttentionMetadata.build(
            prefix_lengths=[sequence.computed for sequence in sequences],
            query_lengths=[sequence.query_length for sequence in sequences],
            block_tables=self._block_tables(sequences),
            block_size=self._cache.block_size,
        )
        hidden = self._model.forward(self._input_ids(sequences), metadata, self._cache)
        ends = np.cumsum([sequence.query_length for sequence in sequences])
        prompt_logprobs = {
            sequence.id: self._prompt_logprobs(sequence, hidden[end - sequence.query_length : end])
            for sequence, end in zip(sequences, ends.tolist(), strict=True)
            if sequence.request.prompt_logprobs and sequence.computed < sequence.prompt_length
        }
        rows = [i for i, sequence in enumerate(sequences) if sequence.samples_next]
        return self._draw([sequences[i] for i in rows], hidden, ends[rows] - 1, prompt_logprobs)

    def _input_ids(self, sequences: list[Sequence]) -> Tensor:
        ids: list[int] = []
        for sequence in sequences:
            ids += sequence.token_ids[sequence.computed : sequence.computed + sequence.query_length]
        return torch.tensor(ids, dtype=torch.int64, device=self._device)

    def _block_tables(self, sequences: list[Sequence]) -> Tensor:
        if self._tables is None or self._table_rows != sequences:
            self._tables = pad_block_tables([sequence.request.blocks for sequence in sequences], self._device)
            self._table_rows = list(sequences)
        return self._tables

    def _draw(
        self,
        rows: list[Sequence],
        hidden: Tensor,
        last: npt.NDArray[np.int64],
        prompt_logprobs: dict[int, list[float]],
    ) -> Drawn:
        if not rows:
            return Drawn([], [], [], [], [], prompt_logprobs)
        if len(rows) < len(hidden):
            hidden = hidden[torch.from_numpy(last).to(self._device)]
        logits = self._model.logits(hidden)
        sampler = self._sampler_for(rows)
        generated = torch.tensor(
            [sequence.generated for sequence in rows], dtype=torch.int64, device=self._device
        )
        sampled = sampler(logits, generated)
        top_ids, top_logprobs = self._top_tokens(rows, sampled)
        drawn = Drawn(
            rows,
            sampled.token_ids.tolist(),
            sampled.logprobs.tolist(),
            top_ids,
            top_logprobs,
            prompt_logprobs,
        )
        sampler.observe(sampled.token_ids)  # last, so that a step that failed has counted nothing
        return drawn

    def _top_tokens(
        self, rows: list[Sequence], sampled: Sampled
    ) -> tuple[list[list[int]], list[list[float]]]:
        counts = [sequence.request.top_n_tokens for sequence in rows]
        if not any(counts):
            return [[]] * len(rows), [[]] * len(rows)
        return top_tokens(sampled.scores, counts)

    def _sampler_for(self, rows: list[Sequence]) -> BatchSampler:
        if self._sampler is None or self._sampler_rows != rows:
            self._sampler = BatchSampler.from_rows(
                [SamplerRow(row.request.sampling, row.token_ids, row.prompt_length) for row in rows],
                self._model.vocab_size,
                self._device,
            )
            self._sampler_rows = rows
        return self._sampler

    def _prompt_logprobs(self, sequence: Sequence, hidden: Tensor) -> list[float]:
        """Log-probabilities of the prompt tokens after each computed one (hidden: [query_length, size])."""
        start = sequence.computed + 1
        targets = sequence.request.prompt_ids[start : sequence.computed + sequence.query_length + 1]
        logprobs: list[float] = []
        for offset in range(0, len(targets), PROMPT_LOGITS_ROWS):
            chunk = torch.tensor(targets[offset : offset + PROMPT_LOGITS_ROWS], device=self._device)
            logits = self._model.logits(hidden[offset : offset + len(chunk)])
            logprobs += token_logprobs(logits, chunk).tolist()
        return logprobs
