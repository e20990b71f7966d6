"""The batcher on shards that compute whole prompts only: who waits for whom, by TGI's rules."""

import asyncio

import pytest

from support.batcher_bench import Bench, StartBench
from support.fake_engine import PAGED_WHOLE_PROMPTS, TGI_PADDED, FakeShardKind
from support.generations import expected_ids, make_request, read_all
from tgi_router.batching.entry import Entry
from tgi_router.batching.room import JoinPolicy

KINDS = pytest.mark.parametrize("kind", [PAGED_WHOLE_PROMPTS, TGI_PADDED], ids=["paged", "padded"])


async def run_first(bench: Bench, *lengths: int) -> list[Entry]:
    """Start requests together and hold their first step."""
    bench.shards.hold()
    entries = [bench.submit(make_request([place + 1] * 4, n)) for place, n in enumerate(lengths)]
    await bench.shards.step_held()
    return entries


async def finish(bench: Bench, *entries: Entry) -> None:
    bench.shards.release()
    await asyncio.gather(*(read_all(entry.stream) for entry in entries))
    await bench.at_rest()


@KINDS
async def test_a_new_batch_is_prefilled_alone_and_joined_by_the_next_decode(
    start: StartBench, kind: FakeShardKind
) -> None:
    bench = await start(kind, policy=JoinPolicy(waiting_served_ratio=0.0))
    first = await run_first(bench, 6)
    second = bench.submit(make_request([7] * 4, 6))
    await finish(bench, *first, second)

    assert bench.engine.calls[:4] == [
        ("prefill", [0], [0]),
        ("prefill", [1], [1]),
        ("decode", [0, 1], [0, 1]),
        ("decode", [0], [0, 1]),
    ]
    assert bench.metrics.batch_concat_duration.labels("decode") is not None
    assert bench.engine.batches == {}


@KINDS
async def test_too_few_new_requests_wait_until_the_running_ones_have_had_their_steps(
    start: StartBench, kind: FakeShardKind
) -> None:
    bench = await start(kind, policy=JoinPolicy(waiting_served_ratio=0.5, max_waiting_tokens=5))
    first = await run_first(bench, 20, 20, 20, 20)
    second = bench.submit(make_request([7] * 4, 2))
    await finish(bench, *first, second)

    # The prefill counts as one of the five waiting tokens.
    methods = [method for method, _, _ in bench.engine.calls]
    assert methods[:6] == ["prefill", "decode", "decode", "decode", "decode", "prefill"]
    assert bench.metrics.batch_concat.labels("wait_exceeded").value == 1
    assert bench.metrics.batch_concat.labels("backpressure").value == 0


@KINDS
async def test_enough_new_requests_join_at_once(start: StartBench, kind: FakeShardKind) -> None:
    bench = await start(kind, policy=JoinPolicy(waiting_served_ratio=0.5, max_waiting_tokens=5))
    first = await run_first(bench, 20, 20, 20, 20)
    more = [bench.submit(make_request([7] * 4, 2)) for _ in range(2)]
    await finish(bench, *first, *more)

    assert [method for method, _, _ in bench.engine.calls[:3]] == ["prefill", "prefill", "decode"]
    assert bench.metrics.batch_concat.labels("backpressure").value == 1


@KINDS
async def test_a_ratio_that_asks_for_no_new_request_is_no_wait_that_was_exceeded(
    start: StartBench, kind: FakeShardKind
) -> None:
    bench = await start(kind, policy=JoinPolicy(waiting_served_ratio=0.3, max_waiting_tokens=5))
    first = await run_first(bench, 20)
    second = bench.submit(make_request([7] * 4, 2))
    await finish(bench, *first, second)

    assert [method for method, _, _ in bench.engine.calls[:2]] == ["prefill", "prefill"]
    assert bench.metrics.batch_concat.labels("backpressure").value == 1
    assert bench.metrics.batch_concat.labels("wait_exceeded").value == 0


@KINDS
async def test_a_batch_that_joined_runs_a_step_before_the_next_one_joins(
    start: StartBench, kind: FakeShardKind
) -> None:
    bench = await start(kind, policy=JoinPolicy(waiting_served_ratio=0.0), max_batch_prefill_tokens=4)
    entries = await run_first(bench, 20, 20, 20)
    await finish(bench, *entries)

    methods = [method for method, _, _ in bench.engine.calls[:5]]
    assert methods == ["prefill", "prefill", "decode", "prefill", "decode"]


@KINDS
async def test_max_batch_size_counts_running_and_new_requests(start: StartBench, kind: FakeShardKind) -> None:
    bench = await start(kind, policy=JoinPolicy(waiting_served_ratio=0.0), max_batch_size=3)
    requests = [make_request([n] * 3, 3 + n) for n in range(1, 8)]

    answers = await bench.generate_all(requests)

    assert answers == [expected_ids(r.input_ids, r.stopping.max_new_tokens) for r in requests]
    assert max(len(ids) for _, _, ids in bench.calls("decode")) == 3


async def test_requests_that_ended_are_filtered_out_of_a_padded_batch(start: StartBench) -> None:
    bench = await start(TGI_PADDED)
    entries = await run_first(bench, 2, 4, 3)
    await finish(bench, *entries)

    assert bench.engine.calls == [
        ("prefill", [0], [0, 1, 2]),
        ("decode", [0], [0, 1, 2]),
        ("filter_batch", [0], [1, 2]),
        ("decode", [0], [1, 2]),
        ("filter_batch", [0], [1]),
        ("decode", [0], [1]),
    ]


async def test_both_batches_are_filtered_before_they_are_joined(start: StartBench) -> None:
    bench = await start(TGI_PADDED, policy=JoinPolicy(waiting_served_ratio=0.0))
    first = await run_first(bench, 1, 5)
    second = [bench.submit(make_request([8] * 4, n)) for n in (1, 5)]
    await finish(bench, *first, *second)

    assert bench.engine.calls[:5] == [
        ("prefill", [0], [0, 1]),
        ("filter_batch", [0], [1]),
        ("prefill", [1], [2, 3]),
        ("filter_batch", [1], [3]),
        ("decode", [0, 1], [1, 3]),
    ]


async def test_a_padded_batch_grows_within_its_budget(start: StartBench) -> None:
    bench = await start(TGI_PADDED, max_batch_total_tokens=40, policy=JoinPolicy(0.0))
    requests = [make_request([n] * 10, 5) for n in range(1, 6)]

    answers = await bench.generate_all(requests)

    assert answers == [expected_ids(request.input_ids, 5) for request in requests]
    # Two rows: 2 x 10 + 2 x 5 = 30; a third would make 45.
    assert max(len(ids) for _, _, ids in bench.calls("decode")) == 2
