"""One forward pass over the flat tokens of a batch, and the draw of the next tokens."""

from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tgi_shard.cache.paged import KVCache
from tgi_shard.engine.rows import Counts, RunningRows, reorder
from tgi_shard.engine.sequence import Sequence
from tgi_shard.grammar.masks import MaskWorker, TokenMasks
from tgi_shard.models.causal_lm import CausalLM
from tgi_shard.sampling.greedy import GreedyKernel, torch_greedy
from tgi_shard.sampling.logprobs import token_logprobs, top_tokens
from tgi_shard.sampling.sampler import BatchSampler, SamplerRow

# Rows of prompt logits held at once: the whole prompt's would be length * vocabulary floats.
PROMPT_LOGITS_ROWS = 256


@dataclass(frozen=True, slots=True)
class PromptScores:
    """What logits say of the prompt tokens behind them.

    Attributes:
        logprobs: of each of those tokens.
        top_tokens: the likeliest tokens in the place of each, ids and log-probabilities, if asked for.
    """

    logprobs: list[float]
    top_tokens: list[tuple[list[int], list[float]]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens drawn in one step; lists run along `sequences`, those that reached their last token.

    Attributes:
        top_tokens: for each sequence that asked, the ids and the log-probabilities of the likeliest tokens.
        prompt_logprobs: for each sequence that asked, what this step's logits say of its prompt tokens.
    """

    sequences: list[Sequence]
    token_ids: list[int]
    logprobs: list[float]
    top_tokens: dict[Sequence, tuple[list[int], list[float]]]
    prompt_logprobs: dict[Sequence, PromptScores]


class ModelRunner:
    """Runs steps. Reads sequences and never changes them, so that a step that fails can be repeated.

    Rows and sampler are kept from step to step, and read from sequences only where these join.
    """

    def __init__(
        self, model: CausalLM, cache: KVCache, device: torch.device, greedy: GreedyKernel = torch_greedy
    ) -> None:
        self._model = model
        self._cache = cache
        self._device = device
        self._rows = RunningRows(device)
        self._sampler = BatchSampler(model.vocab_size, device, greedy)
        self._sampled: list[Sequence] = []
        self._mask_worker = MaskWorker()
        self._asking: list[int] = []  # rows of the sampler that want top tokens
        self._constrained = np.zeros(0, dtype=np.int64)  # rows of the sampler that follow a grammar

    @torch.inference_mode()
    def run(self, sequences: list[Sequence]) -> Drawn:
        """Compute each sequence's next tokens and draw one for those that reach their end."""
        self._rows.arrange(sequences)
        step = self._rows.plan(self._cache.block_size)
        drawing = [sequences[row] for row in step.drawing.tolist()]
        masks = self._prepare_draw(drawing)
        hidden = self._model.forward(step.input_ids, step.metadata, self._cache)
        prompt_logprobs: dict[Sequence, PromptScores] = {}
        for row in step.in_prompt.tolist():
            sequence, end = sequences[row], step.ends[row]
            if sequence.request.prompt_logprobs:
                own = hidden[end - sequence.query_length : end]
                prompt_logprobs[sequence] = self._prompt_logprobs(sequence, own)
        if not drawing:
            self._rows.advance(step, torch.empty(0, dtype=torch.int64))
            return Drawn([], [], [], {}, prompt_logprobs)
        if len(step.drawing) < len(hidden):
            hidden = hidden[torch.from_numpy(step.ends[step.drawing] - 1).to(self._device)]
        logits = self._model.logits(hidden)
        if masks is not None:
            masks.result().apply_(logits)
        sampled = self._sampler.sample(logits, step.generated)
        drawn = Drawn(
            drawing,
            sampled.token_ids.tolist(),
            sampled.logprobs.tolist(),
            self._top_tokens(logits, step.generated),
            prompt_logprobs,
        )
        # Last, so that a step that failed has counted nothing.
        self._sampler.observe(sampled.token_ids)
        self._rows.advance(step, sampled.token_ids)
        return drawn

    def _prepare_draw(self, drawing: list[Sequence]) -> Future[TokenMasks] | None:
        """Do what a draw needs beside logits, and begin with its masks, which are worked out meanwhile."""
        if not drawing:
            return None
        self._arrange_sampler(drawing)
        matchers = [matcher for row in self._constrained.tolist() if (matcher := drawing[row].matcher)]
        return self._mask_worker.begin(matchers, self._constrained) if matchers else None

    def _arrange_sampler(self, drawing: list[Sequence]) -> None:
        if drawing == self._sampled:
            return
        order, joined = reorder(self._sampled, drawing)
        self._sampler.rearrange(order, [SamplerRow(each.request.sampling, each.token_ids) for each in joined])
        self._sampled = drawing
        self._asking = [row for row, sequence in enumerate(drawing) if sequence.request.top_n_tokens]
        constrained = [row for row, sequence in enumerate(drawing) if sequence.matcher is not None]
        self._constrained = np.array(constrained, dtype=np.int64)

    def _top_tokens(self, logits: Tensor, generated: Counts) -> dict[Sequence, tuple[list[int], list[float]]]:
        """The likeliest tokens for each sequence that asked for some."""
        if not self._asking:
            return {}
        asking = [self._sampled[row] for row in self._asking]
        scores = self._sampler.scores(logits, generated, np.array(self._asking))
        ids, logprobs = top_tokens(scores, [sequence.request.top_n_tokens for sequence in asking])
        return dict(zip(asking, zip(ids, logprobs, strict=True), strict=True))

    def _prompt_logprobs(self, sequence: Sequence, hidden: Tensor) -> PromptScores:
        """What is said of the prompt tokens after each computed one (hidden: [query_length, size])."""
        start = sequence.computed + 1
        targets = sequence.request.prompt_ids[start : sequence.computed + sequence.query_length + 1]
        scores = PromptScores([], [])
        count = sequence.request.prompt_top_n_tokens
        for offset in range(0, len(targets), PROMPT_LOGITS_ROWS):
            chunk = torch.tensor(targets[offset : offset + PROMPT_LOGITS_ROWS], device=self._device)
            logits = self._model.logits(hidden[offset : offset + len(chunk)])
            scores.logprobs.extend(token_logprobs(logits, chunk).tolist())
            if count:
                scores.top_tokens.extend(zip(*top_tokens(logits, [count] * len(chunk)), strict=True))
        return scores
