"""Any mixture of requests, leavers and failing steps: right tokens, nothing stuck, no block lost."""

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from support.batcher_bench import Bench
from support.fake_engine import (
    PAGED_WHOLE_PROMPTS,
    TGI_PADDED,
    FakeEngine,
    FakeShardError,
    FakeShardKind,
)
from support.generations import expected_ids, make_limits, make_request, token_ids
from support.memory_shards import MemoryShards
from tgi_router.batching.batcher import Batcher
from tgi_router.batching.entry import Entry
from tgi_router.batching.room import JoinPolicy
from tgi_router.generation import EndEvent, GenerationEvent, ShardError
from tgi_router.telemetry.metrics import Metrics

SMALL_PAGED = FakeShardKind(block_size=4, block_count=40)
SMALL_AHEAD = FakeShardKind(block_size=4, block_count=40, max_inflight_steps=2)
SMALL_DEEP = FakeShardKind(block_size=4, block_count=40, max_inflight_steps=4)
SMALL_TGI = FakeShardKind(block_size=1, block_count=120, accepts_input_ids=False, keeps_finished=True)
LONGEST_PROMPT = 50
KINDS = [SMALL_PAGED, SMALL_AHEAD, SMALL_DEEP, SMALL_TGI, PAGED_WHOLE_PROMPTS, TGI_PADDED]


@dataclass(frozen=True)
class Visit:
    """A request: when it comes, and after how many tokens, or how soon, its reader leaves."""

    prompt: tuple[int, ...]
    new_tokens: int
    turns_before: int
    leaves_after: int | None
    patience: int | None


@st.composite
def visits(draw: st.DrawFn) -> Visit:
    # Prompts are beginnings of few texts, so that many share pages.
    text = draw(st.integers(1, 2))
    length = draw(st.integers(1, LONGEST_PROMPT))
    return Visit(
        prompt=tuple(text * 100 + place // 16 for place in range(length)),
        new_tokens=draw(st.integers(1, 12)),
        turns_before=draw(st.integers(0, 6)),
        leaves_after=draw(st.none() | st.integers(1, 5)),
        patience=draw(st.none() | st.integers(0, 12)),
    )


async def visit(bench: Bench, plan: Visit) -> None:
    """Come, submit a request, and read it or lose patience."""
    for _ in range(plan.turns_before):
        await asyncio.sleep(0)
    entry = bench.submit(make_request(plan.prompt, plan.new_tokens))
    if plan.patience is not None:
        for _ in range(plan.patience):
            await asyncio.sleep(0)
        bench.batcher.cancel(entry)
        return
    await read(bench, plan, entry)


async def read(bench: Bench, plan: Visit, entry: Entry) -> None:
    """Read until the end, or until the reader has enough."""
    events: list[GenerationEvent] = []
    try:
        while plan.leaves_after is None or len(events) < plan.leaves_after:
            taken = await entry.stream.take()
            if not taken:
                break
            events.extend(taken)
        if plan.leaves_after is None:
            assert isinstance(events[-1], EndEvent)
            assert len(events) == plan.new_tokens
    except ShardError as error:
        if str(error) != "injected":
            raise
    finally:
        bench.batcher.cancel(entry)
    assert token_ids(events) == expected_ids(plan.prompt, len(events))


async def run(
    kind: FakeShardKind, plans: list[Visit], failures: list[bool], prefill: int, batch_size: int | None
) -> None:
    if not kind.support_chunking:
        prefill = max(prefill, LONGEST_PROMPT)
    engine = FakeEngine(kind)
    engine.failures = [FakeShardError("injected") if fails else None for fails in failures]
    shards = MemoryShards(engine)
    metrics = Metrics(max_input_tokens=100, max_total_tokens=100)
    limits = make_limits(engine, max_batch_prefill_tokens=prefill, max_batch_size=batch_size)
    batcher = Batcher(shards, limits, metrics, JoinPolicy(0.3, 3))
    bench = Bench(batcher, engine, shards, metrics)
    batcher.start()
    async with asyncio.timeout(20):
        await asyncio.gather(*(visit(bench, plan) for plan in plans))
        await bench.at_rest()
    assert engine.batches == {}
    assert metrics.kv_blocks_used.value == 0
    assert metrics.queue_size.value == 0
    if kind.support_chunking:
        assert max(engine.step_tokens, default=0) <= prefill
    assert shards.most_waiting <= max(1, kind.max_inflight_steps)
    await batcher.close()


@given(
    kind=st.sampled_from(KINDS),
    plans=st.lists(visits(), min_size=1, max_size=10),
    failures=st.lists(st.booleans(), max_size=6) | st.just([]),
    prefill=st.sampled_from([17, 24, 50, 200]),
    batch_size=st.none() | st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_every_visitor_reads_its_own_tokens_and_leaves_nothing_behind(
    kind: FakeShardKind, plans: list[Visit], failures: list[bool], prefill: int, batch_size: int | None
) -> None:
    asyncio.run(run(kind, plans, failures, prefill, batch_size))
