"""A shard without a model: it speaks the contract's messages, writes scripted tokens, and checks its memory.

In place of keys and values, every KV slot remembers which tokens it was computed from. A step that finds
other contents than its request's own tokens fails, so a block given out twice, a prefix shared before it was
computed, or a block freed too early does not go unnoticed.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tgi_proto import generate_pb2 as pb

EOS_ID = 2
EOS_TEXT = "</s>"

Script = Callable[[tuple[int, ...], int], int]
"""The token that follows: from the prompt's ids and the number of tokens generated before."""


def counting_script(prompt: tuple[int, ...], generated: int) -> int:
    """Tokens that differ by prompt and by place."""
    return 1000 + (sum(prompt) * 31 + len(prompt) * 7 + generated) % 1000


@dataclass(frozen=True, slots=True)
class FakeShardKind:
    """How a shard behaves."""

    requires_padding: bool = False
    support_chunking: bool = True
    use_prefix_caching: bool = True
    accepts_input_ids: bool = True
    block_size: int = 4
    block_count: int = 64
    speculate: int = 0
    max_inflight_steps: int = 0
    keeps_finished: bool = False
    """Requests that ended stay in the batch, and are stepped again, until they are filtered out."""


PAGED = FakeShardKind()
PAGED_AHEAD = FakeShardKind(max_inflight_steps=2)
PAGED_WHOLE_PROMPTS = FakeShardKind(support_chunking=False)
TGI_PAGED = FakeShardKind(accepts_input_ids=False, keeps_finished=True, block_size=1, block_count=1000)
TGI_PADDED = FakeShardKind(
    requires_padding=True,
    support_chunking=False,
    accepts_input_ids=False,
    block_size=1,
    block_count=1000,
    keeps_finished=True,
)


class FakeShardError(Exception):
    """What a call fails with; its text is what the router gets to read."""


@dataclass(slots=True)
class FakeSequence:
    """A request that the shard holds."""

    message: pb.Request
    ids: list[int]
    prompt_length: int
    computed: int
    chunk: int
    slots: list[int]
    generated: int = 0
    finished: pb.GeneratedText | None = None

    @property
    def prefilling(self) -> bool:
        return self.computed < self.prompt_length


@dataclass(slots=True)
class FakeBatch:
    id: int
    sequences: list[FakeSequence]


@dataclass(slots=True)
class FakeEngine:
    """Scripted steps over checked memory.

    Attributes:
        script: chooses tokens.
        refuse: ids of prompts' first tokens whose requests fail alone.
        failures: what happens to the next steps, one for each: an error is raised, None lets it pass.
        batches: what is held, by batch id.
        calls: what was asked, for tests to read: (method, batch ids, request ids).
    """

    kind: FakeShardKind = PAGED
    script: Script = counting_script
    refuse: set[int] = field(default_factory=set)
    failures: list[Exception | None] = field(default_factory=list)
    batches: dict[int, FakeBatch] = field(default_factory=dict)
    calls: list[tuple[str, list[int], list[int]]] = field(default_factory=list)
    memory: dict[int, tuple[int, ...]] = field(default_factory=dict)
    step_tokens: list[int] = field(default_factory=list)
    max_prefill_tokens: int = 4096

    def info(self) -> pb.InfoResponse:
        kind = self.kind
        return pb.InfoResponse(
            requires_padding=kind.requires_padding,
            dtype="float32",
            device_type="cpu",
            speculate=kind.speculate,
            support_chunking=kind.support_chunking,
            use_prefix_caching=kind.use_prefix_caching,
            attention_impl="fake",
            block_size=kind.block_size,
            accepts_input_ids=kind.accepts_input_ids,
            max_inflight_steps=kind.max_inflight_steps,
        )

    def warmup(self, request: pb.WarmupRequest) -> pb.WarmupResponse:
        self.calls.append(("warmup", [request.batch.id], [r.id for r in request.batch.requests]))
        self.max_prefill_tokens = request.max_prefill_tokens
        rows = sum(prompt.truncate for prompt in request.batch.requests)
        total = self.kind.block_count * self.kind.block_size
        max_total = request.max_total_tokens if request.HasField("max_total_tokens") else None
        if max_total is None:
            max_total = rows if self.kind.requires_padding else total
        max_input = request.max_input_tokens if request.HasField("max_input_tokens") else max_total - 1
        return pb.WarmupResponse(
            max_supported_total_tokens=None if self.kind.requires_padding else total,
            max_input_tokens=max_input,
            max_total_tokens=max_total,
        )

    def clear_cache(self, request: pb.ClearCacheRequest) -> None:
        batch_ids = [request.id] if request.HasField("id") else list(self.batches)
        self.calls.append(("clear_cache", batch_ids, []))
        for batch_id in batch_ids:
            self.batches.pop(batch_id, None)

    def filter_batch(self, request: pb.FilterBatchRequest) -> pb.CachedBatch:
        keep = list(request.request_ids)
        self.calls.append(("filter_batch", [request.batch_id], keep))
        batch = self._pop(request.batch_id)
        if not keep:
            raise FakeShardError("an empty list of requests")
        known = {sequence.message.id: sequence for sequence in batch.sequences}
        batch.sequences = [known[request_id] for request_id in keep]
        self.batches[batch.id] = batch
        return self._describe(batch)

    def prefill(self, request: pb.PrefillRequest) -> pb.PrefillResponse:
        new = request.batch
        joined = [request.cached_batch.id] if request.HasField("cached_batch") else []
        self.calls.append(("prefill", [*joined, new.id], [message.id for message in new.requests]))
        assert not joined or self.kind.support_chunking, "this shard cannot join in a prefill"
        assert new.size == len(new.requests)
        batches = self._pop_all(joined, ahead=request.ahead)
        self._raise_failure()
        answer = pb.PrefillResponse(forward_ns=2_000_000, decode_ns=1_000_000, total_ns=4_000_000)
        started: list[FakeSequence] = []
        for message in new.requests:
            sequence = self._start(message)
            if sequence.ids[0] in self.refuse:
                self._refuse(request.accepts_errors, answer, message.id)
            else:
                started.append(sequence)
        self._step(self._join([*joined, new.id], [*batches, FakeBatch(new.id, started)]), answer)
        return answer

    def decode(self, request: pb.DecodeRequest) -> pb.DecodeResponse:
        ids = [cached.id for cached in request.batches]
        batches = self._pop_all(ids, ahead=request.ahead)
        self.calls.append(("decode", ids, [s.message.id for batch in batches for s in batch.sequences]))
        assert ids, "a decode of nothing"
        self._raise_failure()
        answer = pb.DecodeResponse(forward_ns=2_000_000, decode_ns=1_000_000, total_ns=4_000_000)
        if len(batches) > 1:
            answer.concat_ns = 500_000
        self._step(self._join(ids, batches), answer)
        return answer

    def _pop_all(self, batch_ids: Sequence[int], *, ahead: bool) -> list[FakeBatch]:
        """These batches; in a step that was sent ahead, those that have not ended."""
        assert not ahead or self.kind.max_inflight_steps > 1, "sent ahead to a shard that forbids it"
        return [self._pop(batch_id) for batch_id in batch_ids if not ahead or batch_id in self.batches]

    def _pop(self, batch_id: int) -> FakeBatch:
        if batch_id not in self.batches:
            raise FakeShardError(f"batch {batch_id} is unknown")
        return self.batches.pop(batch_id)

    def _raise_failure(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure

    def _refuse(self, accepts_errors: bool, answer: pb.PrefillResponse, request_id: int) -> None:
        assert accepts_errors
        answer.errors.add(request_id=request_id, message="this prompt is refused")

    def _join(self, batch_ids: Sequence[int], batches: Sequence[FakeBatch]) -> FakeBatch:
        return FakeBatch(batch_ids[0], [sequence for batch in batches for sequence in batch.sequences])

    def _start(self, message: pb.Request) -> FakeSequence:
        kind = self.kind
        if kind.accepts_input_ids:
            assert message.input_ids, "no token ids"
            assert not message.inputs, "text and token ids"
            ids = list(message.input_ids)
        else:
            assert not message.input_ids, "token ids for a shard that has never heard of them"
            [chunk] = message.input_chunks.chunks
            assert chunk.text == message.inputs
            ids = fake_tokenize(message.inputs)[-message.truncate :]
        rest = len(ids) - message.cache_len
        chunk_length = message.chunk_len if message.HasField("chunk_len") else rest
        assert 0 < chunk_length <= rest, "a chunk that is empty or too long"
        assert chunk_length == rest or kind.support_chunking, "a cut prompt"
        return FakeSequence(
            message=message,
            ids=ids,
            prompt_length=len(ids),
            computed=message.cache_len,
            chunk=chunk_length,
            slots=self._slots(message, len(ids)),
        )

    def _slots(self, message: pb.Request, prompt_length: int) -> list[int]:
        kind = self.kind
        if kind.requires_padding:
            assert not message.blocks
            assert not message.slots
            return []
        assert 0 not in message.blocks, "block 0 was given out"
        assert len(set(message.blocks)) == len(message.blocks), "a block twice in one request"
        size = kind.block_size
        slots = [slot for block in message.blocks for slot in range(block * size, (block + 1) * size)]
        needed = prompt_length + message.stopping_parameters.max_new_tokens + kind.speculate - 1
        assert len(slots) >= needed, "too few blocks"
        if not kind.accepts_input_ids:
            assert list(message.slots) == slots[:needed], "slots do not match the blocks"
        return slots

    def _step(self, batch: FakeBatch, answer: pb.PrefillResponse | pb.DecodeResponse) -> None:
        if not batch.sequences:
            return
        self.step_tokens.append(sum(_next_length(sequence) for sequence in batch.sequences))
        for sequence in batch.sequences:
            self._compute(sequence)
            if not sequence.prefilling:
                answer.generations.append(self._generate(sequence))
        held = [s for s in batch.sequences if s.finished is None or self.kind.keeps_finished]
        if any(sequence.finished is None for sequence in held):
            batch.sequences = held
            self._plan_chunks(batch)
            self.batches[batch.id] = batch
            answer.batch.CopyFrom(self._describe(batch))

    def _compute(self, sequence: FakeSequence) -> None:
        """Check what the request has in memory, and write what this step adds."""
        end = sequence.computed + _next_length(sequence)
        if sequence.slots and sequence.finished is None:
            for position in range(sequence.computed):
                found = self.memory.get(sequence.slots[position])
                if found != tuple(sequence.ids[: position + 1]):
                    raise FakeShardError(f"request {sequence.message.id} lost its memory at {position}")
            for position in range(sequence.computed, end):
                self.memory[sequence.slots[position]] = tuple(sequence.ids[: position + 1])
        sequence.computed = end

    def _generate(self, sequence: FakeSequence) -> pb.Generation:
        token = self.script(tuple(sequence.ids[: sequence.prompt_length]), sequence.generated)
        first = sequence.generated == 0
        sequence.generated += 1
        sequence.ids.append(token)
        generation = pb.Generation(request_id=sequence.message.id, tokens=_tokens([token]))
        if first and sequence.message.prefill_logprobs:
            generation.prefill_tokens.CopyFrom(_tokens(sequence.ids[:-1]))
            del generation.prefill_tokens.is_special[:]
        if sequence.message.top_n_tokens:
            generation.top_tokens.append(_tokens([token + n for n in range(sequence.message.top_n_tokens)]))
        reason = _stop_reason(sequence, token)
        if sequence.finished is not None or reason is not None:
            sequence.finished = _finish(sequence, reason)
            generation.generated_text.CopyFrom(sequence.finished)
        return generation

    def _plan_chunks(self, batch: FakeBatch) -> None:
        """TGI's rule: what the budget leaves is handed out from the newest request on, at least 1 each."""
        budget = self.max_prefill_tokens - (len(batch.sequences) - 1)
        for sequence in reversed(batch.sequences):
            if sequence.prefilling:
                sequence.chunk = max(1, min(budget, sequence.prompt_length - sequence.computed))
                budget -= sequence.chunk

    def _describe(self, batch: FakeBatch) -> pb.CachedBatch:
        messages = [sequence.message for sequence in batch.sequences]
        if self.kind.requires_padding:
            longest = max(sequence.prompt_length for sequence in batch.sequences)
            new_tokens = sum(message.stopping_parameters.max_new_tokens for message in messages)
            max_tokens = len(messages) * longest + new_tokens
        else:
            max_tokens = sum(len(message.blocks) for message in messages) * self.kind.block_size
        return pb.CachedBatch(
            id=batch.id,
            request_ids=[message.id for message in messages],
            size=len(messages),
            max_tokens=max_tokens,
            current_tokens=sum(_next_length(sequence) for sequence in batch.sequences),
        )


def fake_tokenize(text: str) -> list[int]:
    """Token ids as tests write them in a prompt: numbers between spaces. Other words count as some number."""
    return [int(word) if word.isdecimal() else 3 + zlib.crc32(word.encode()) % 997 for word in text.split()]


def token_text(token: int) -> str:
    return EOS_TEXT if token == EOS_ID else f" {token}"


def _next_length(sequence: FakeSequence) -> int:
    return sequence.chunk if sequence.prefilling else 1


def _tokens(ids: Sequence[int]) -> pb.Tokens:
    return pb.Tokens(
        ids=ids,
        logprobs=[-0.5] * len(ids),
        texts=[token_text(token) for token in ids],
        is_special=[token == EOS_ID for token in ids],
    )


def _stop_reason(sequence: FakeSequence, token: int) -> "pb.FinishReason | None":
    stopping = sequence.message.stopping_parameters
    if token == EOS_ID and not stopping.ignore_eos_token:
        return pb.FINISH_REASON_EOS_TOKEN
    if sequence.generated >= stopping.max_new_tokens:
        return pb.FINISH_REASON_LENGTH
    if token_text(token) in stopping.stop_sequences:
        return pb.FINISH_REASON_STOP_SEQUENCE
    return None


def _finish(sequence: FakeSequence, reason: "pb.FinishReason | None") -> pb.GeneratedText:
    output = sequence.ids[sequence.prompt_length :]
    parameters = sequence.message.parameters
    return pb.GeneratedText(
        text="".join(token_text(token) for token in output if token != EOS_ID),
        generated_tokens=sequence.generated,
        finish_reason=reason if reason is not None else pb.FINISH_REASON_LENGTH,
        seed=parameters.seed if parameters.do_sample else None,
    )
