"""The engine: what each call of the contract does to the batches, the model and the KV cache."""

import time
from contextlib import suppress
from dataclasses import dataclass

import structlog

from tgi_shard.distributed import Collective, DistributedError
from tgi_shard.engine.batch import Batch, BatchCache, UnknownBatchError, keep_requests
from tgi_shard.engine.memory import CacheMaker
from tgi_shard.engine.outputs import OutputWriter
from tgi_shard.engine.request import CacheShape, EngineRequest, RequestRefusedError, check_request
from tgi_shard.engine.results import BatchState, RequestFailure, StepResult, describe
from tgi_shard.engine.runner import ModelRunner
from tgi_shard.engine.sequence import Sequence, plan_chunks, start_sequence
from tgi_shard.engine.warmup import WarmupLimits, WarmupRequest, derive_limits, warmup_sequences
from tgi_shard.models.causal_lm import CausalLM
from tgi_shard.platform import Platform
from tgi_shard.text.tokenizer import ShardTokenizer

log = structlog.get_logger(__name__)


TOUCH_SECONDS = 3.0
TOUCH_BYTES = 2**30
"""How long a start may take longer, and how much of the KV cache is worth it: enough for a busy minute."""


class NotWarmedUpError(ValueError):
    """A step was asked for before Warmup has made the KV cache."""


class RanksDisagreeError(RuntimeError):
    """A step has failed on some ranks alone, so their batches are no longer the same."""


@dataclass(slots=True)
class Ready:
    """What exists once the KV cache is sized."""

    runner: ModelRunner
    shape: CacheShape
    max_prefill_tokens: int


class Engine:
    """Owns the model and its batches. All methods but `check_device` run on the engine thread.

    `max_length` is the longest sequence it serves, in tokens.
    """

    def __init__(
        self,
        model: CausalLM,
        tokenizer: ShardTokenizer,
        platform: Platform,
        collective: Collective,
        cache_maker: CacheMaker,
        outputs: OutputWriter,
        max_length: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._platform = platform
        self._collective = collective
        self._cache_maker = cache_maker
        self._outputs = outputs
        self._max_length = max_length
        self._batches = BatchCache()
        self._ready: Ready | None = None
        self._lost: str | None = None

    @property
    def lost(self) -> str | None:
        """Why no more steps can be taken: the ranks have lost each other. None while all is well."""
        return self._lost

    def check_device(self) -> None:
        """Compute something small on the device; safe on any thread.

        Raises:
            DeviceError: the device does not compute, or computes wrongly.
            DistributedError: the ranks have lost each other, which no later step can mend.
        """
        if self._lost is not None:
            raise DistributedError(self._lost)
        self._platform.check()

    def warmup(self, request: WarmupRequest) -> WarmupLimits:
        """Run the largest prefill once, then give what memory is left to the KV cache.

        Raises:
            NotEnoughMemoryError, ValueError: the limits asked for cannot be met; see `derive_limits`.
        """
        self._batches.clear()
        self._ready = None
        self._platform.release_cached_memory()
        block_size = self._cache_maker.block_size
        sequences = warmup_sequences(request, block_size, self._max_length, self._tokenizer)
        trial = self._cache_maker.make(1 + sum(len(sequence.request.blocks) for sequence in sequences))
        ModelRunner(self._model, trial, self._platform.device).run(sequences)
        del trial
        # Counted while torch still keeps what the prefill needed: every later one needs it too.
        num_blocks = self._cache_maker.count_blocks()
        self._platform.release_cached_memory()
        limits = derive_limits(request, num_blocks, block_size, self._max_length)
        cache = self._cache_maker.make(num_blocks)
        cache.touch(TOUCH_SECONDS, TOUCH_BYTES)
        self._ready = Ready(
            ModelRunner(self._model, cache, self._platform.device, self._model.backend.operations.greedy),
            CacheShape(num_blocks, block_size, self._model.vocab_size, self._max_length),
            request.max_prefill_tokens,
        )
        log.info("warmed up", kv_tokens=limits.kv_tokens, max_total_tokens=limits.max_total_tokens)
        return limits

    def clear(self, batch_id: int | None) -> None:
        """Forget one batch, or all of them; one that is not there is fine."""
        if batch_id is None:
            self._batches.clear()
        else:
            self._batches.drop(batch_id)

    def filter(self, batch_id: int, keep: list[int]) -> BatchState:
        """Keep some requests of a batch, in this order. A bad list changes nothing.

        Raises:
            ValueError: the batch is unknown, or the list names what it does not hold.
        """
        batch = keep_requests(self._batches.get(batch_id), keep)
        self._batches.put(batch)
        return batch.state(self._cache_maker.block_size)

    def prefill(
        self, batch_id: int, requests: list[EngineRequest], cached_id: int | None, *, ahead: bool = False
    ) -> StepResult:
        """Add requests, to a cached batch if one is named, and run one step of all.

        A request that cannot be computed as it was sent fails alone. If the step itself fails, the new
        requests fail and the cached batch is as it was.

        Args:
            batch_id: what to call the new requests, unless they join a cached batch.
            requests: the new requests.
            cached_id: the batch they join.
            ahead: the caller may not know yet that the cached batch has ended: then they go on under its id.

        Raises:
            UnknownBatchError: the cached batch does not exist; nothing has changed.
            NotWarmedUpError: Warmup was not called.
        """
        ready = self._ready_or_refuse()
        started = time.perf_counter_ns()
        if cached_id is None:
            self._batches.check_free(batch_id)
        joined = [] if cached_id is None else self._find([cached_id], ahead=ahead)
        running = [sequence for batch in joined for sequence in batch.sequences]
        new, failures = self._admit(requests, ready.shape)
        concat_ns = time.perf_counter_ns() - started if running else None
        batch = Batch(batch_id if cached_id is None else cached_id, [*running, *new])
        if not new:
            state = batch.state(ready.shape.block_size) if running else None
            return StepResult(failures=failures, batch=state)
        try:
            result = self._step(batch, ready)
        except RanksDisagreeError as error:
            return self._give_up(batch, error)
        except Exception as error:
            self._note_failure("prefill", error)
            failures += [RequestFailure.of(sequence.id, error) for sequence in new]
            kept = Batch(batch.id, running).state(ready.shape.block_size) if running else None
            return StepResult(failures=failures, batch=kept)
        result.failures[:0] = failures
        result.concat_ns = concat_ns
        return result

    def decode(self, batch_ids: list[int], *, ahead: bool = False) -> StepResult:
        """Run one step of cached batches; several are joined under the first one's id.

        If the step fails, all of its requests fail.

        Args:
            batch_ids: the batches.
            ahead: the caller may not know yet that a batch has ended: the step goes on without it.

        Raises:
            UnknownBatchError, ValueError: a batch is missing, or named twice; nothing has changed.
            NotWarmedUpError: Warmup was not called.
        """
        ready = self._ready_or_refuse()
        started = time.perf_counter_ns()
        batches = self._find(batch_ids, ahead=ahead)
        joined = Batch(batch_ids[0], [sequence for batch in batches for sequence in batch.sequences])
        concat_ns = time.perf_counter_ns() - started if len(batches) > 1 else None
        for batch in batches:
            if batch.id != joined.id:
                self._batches.drop(batch.id)
        try:
            result = self._step(joined, ready)
        except Exception as error:
            return self._give_up(joined, error)
        result.concat_ns = concat_ns
        return result

    def _ready_or_refuse(self) -> Ready:
        if self._lost is not None:
            # What is left of an exchange could be taken for a part of the next one.
            raise DistributedError(self._lost)
        if self._ready is None:
            raise NotWarmedUpError("the shard has no KV cache yet; call Warmup first")
        return self._ready

    def _find(self, batch_ids: list[int], *, ahead: bool) -> list[Batch]:
        """These batches; in a step that was sent ahead, those of them that have not ended."""
        if not ahead:
            return self._batches.get_all(batch_ids)
        batches: list[Batch] = []
        for batch_id in dict.fromkeys(batch_ids):
            with suppress(UnknownBatchError):
                batches.append(self._batches.get(batch_id))
        return batches

    def _give_up(self, batch: Batch, error: Exception) -> StepResult:
        self._note_failure("step", error)
        self._batches.drop(batch.id)
        return StepResult(failures=[RequestFailure.of(sequence.id, error) for sequence in batch.sequences])

    def _note_failure(self, step: str, error: Exception) -> None:
        log.error(f"{step} failed: {describe(error)}")
        log.debug("where it failed", exc_info=True)
        if isinstance(error, DistributedError):
            self._lost = str(error)
        self._platform.release_cached_memory()

    def _admit(
        self, requests: list[EngineRequest], shape: CacheShape
    ) -> tuple[list[Sequence], list[RequestFailure]]:
        taken = self._batches.request_ids()
        sequences: list[Sequence] = []
        failures: list[RequestFailure] = []
        for request in requests:
            try:
                check_request(request, shape)
                if request.id in taken:
                    raise RequestRefusedError(f"a request with the id {request.id} is already running")
                sequences.append(start_sequence(request, self._tokenizer))
                taken.add(request.id)
            except ValueError as error:
                failures.append(RequestFailure(request.id, str(error)))
        return sequences, failures

    def _step(self, batch: Batch, ready: Ready) -> StepResult:
        """Run the model, then change state: up to the draw, an exception leaves every sequence as it was."""
        self._check_agreement(batch)
        if not batch.sequences:
            return StepResult()
        started = time.perf_counter_ns()
        drawn = ready.runner.run(batch.sequences)
        drawn_at = time.perf_counter_ns()
        for sequence in batch.sequences:
            sequence.computed += sequence.query_length
        for sequence, scored in drawn.prompt_logprobs.items():
            sequence.prompt_logprobs += scored.logprobs
            sequence.prompt_top_tokens += scored.top_tokens
        outputs, failures, ended = self._outputs.write(drawn)
        left = Batch(batch.id, [sequence for sequence in batch.sequences if sequence.id not in ended])
        state = None
        if left.sequences:
            plan_chunks(left.sequences, ready.max_prefill_tokens)
            self._batches.put(left)
            state = left.state(ready.shape.block_size)
        else:
            self._batches.drop(batch.id)
        return StepResult(
            outputs=outputs,
            failures=failures,
            batch=state,
            forward_ns=drawn_at - started,
            decode_ns=time.perf_counter_ns() - drawn_at,
        )

    def _check_agreement(self, batch: Batch) -> None:
        """Refuse a step that the ranks would compute differently: they would wait for each other.

        A step that failed on one rank alone leaves different batches, and the next may be queued by then.

        Raises:
            RanksDisagreeError: on every rank.
        """
        if self._collective.world.size == 1:
            return
        plan = tuple((sequence.id, sequence.computed, sequence.query_length) for sequence in batch.sequences)
        if not self._collective.all_same(hash(plan), self._platform.device):
            raise RanksDisagreeError("the shards hold different batches, since a step failed on one of them")
