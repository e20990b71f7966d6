"""Readers that leave: their requests go at once while queued, before the next step once they run."""

import asyncio
from collections.abc import Iterable

import pytest

from support.batcher_bench import Bench, StartBench
from support.fake_engine import PAGED, PAGED_WHOLE_PROMPTS, TGI_PADDED, TGI_PAGED, FakeShardKind
from support.generations import expected_ids, make_request, read_all, token_ids
from tgi_proto import generate_pb2 as pb
from tgi_router.batching.room import JoinPolicy

KINDS = pytest.mark.parametrize(
    "kind", [PAGED, PAGED_WHOLE_PROMPTS, TGI_PAGED, TGI_PADDED], ids=["paged", "whole", "tgi", "padded"]
)


def nothing_is_left(bench: Bench) -> bool:
    metrics = bench.metrics
    gauges = (metrics.queue_size, metrics.batch_current_size, metrics.kv_blocks_used)
    return bench.engine.batches == {} and all(gauge.value == 0 for gauge in gauges)


async def test_a_queued_request_leaves_the_queue_at_once_wherever_it_stands(start: StartBench) -> None:
    bench = await start(PAGED, max_batch_size=1)
    bench.shards.hold()
    running = bench.submit(make_request([1, 2], 3))
    await bench.shards.step_held()
    second, third, fourth = (bench.submit(make_request([n, n], 3)) for n in (3, 4, 5))
    assert bench.metrics.queue_size.value == 3

    bench.batcher.cancel(third)

    assert bench.metrics.queue_size.value == 2
    bench.shards.release()
    answers = [token_ids(await read_all(entry.stream)) for entry in (running, second, fourth)]
    assert answers == [expected_ids([n, n], 3) if n > 1 else expected_ids([1, 2], 3) for n in (1, 3, 5)]
    assert not any(third.id in request_ids for _, _, request_ids in bench.calls("prefill"))
    assert await read_all(third.stream) == []
    await bench.at_rest()
    assert nothing_is_left(bench)


async def test_a_request_cancelled_before_the_batcher_wakes_up_is_never_sent(start: StartBench) -> None:
    bench = await start(PAGED)
    bench.batcher.cancel(bench.submit(make_request([1, 2], 3)))

    assert await bench.generate(make_request([3], 2)) == expected_ids([3], 2)

    assert [ids for _, _, ids in bench.calls("prefill")] == [[1]]


@KINDS
async def test_a_request_cancelled_in_its_first_step_does_not_see_a_second(
    start: StartBench, kind: FakeShardKind
) -> None:
    bench = await start(kind)
    bench.shards.hold()
    leaving = bench.submit(make_request([1] * 8, 9))
    await bench.shards.step_held()
    bench.batcher.cancel(leaving)
    bench.shards.release()
    await bench.at_rest()

    assert [method for method, _, _ in bench.engine.calls] == ["prefill", "clear_cache"]
    assert nothing_is_left(bench)


@KINDS
async def test_a_request_cancelled_while_decoding_is_filtered_out_before_the_next_step(
    start: StartBench, kind: FakeShardKind
) -> None:
    bench = await start(kind)
    bench.shards.hold()
    leaving, staying = (bench.submit(make_request([n] * 8, 4)) for n in (1, 2))
    await bench.shards.step_held()
    bench.shards.release()
    await leaving.stream.take()
    bench.batcher.cancel(leaving)

    assert token_ids(await read_all(staying.stream)) == expected_ids([2] * 8, 4)

    [(_, _, kept)] = bench.calls("filter_batch")[:1]
    assert kept == [staying.id]
    steps_with_it = [ids for _, _, ids in bench.calls("decode") if leaving.id in ids]
    assert len(steps_with_it) <= 1
    await bench.at_rest()
    assert nothing_is_left(bench)


async def test_a_long_prompt_stops_being_computed_and_what_was_computed_stays_of_use(
    start: StartBench,
) -> None:
    bench = await start(FakeShardKind(block_size=4, block_count=100), max_batch_prefill_tokens=32)
    prompt = list(range(1, 200))
    bench.shards.hold()
    leaving = bench.submit(make_request(prompt, 4))
    await bench.shards.step_held()
    bench.batcher.cancel(leaving)
    bench.shards.release()
    await bench.at_rest()
    assert bench.engine.step_tokens == [32]
    assert nothing_is_left(bench)

    assert await bench.generate(make_request(prompt[:80], 2)) == expected_ids(prompt[:80], 2)

    assert bench.engine.step_tokens[1:3] == [32, 80 - 32 - 32]


async def test_blocks_of_a_cancelled_request_are_free_only_once_the_shard_has_dropped_it(
    start: StartBench,
) -> None:
    # 12 blocks: the new request needs those of the one that leaves.
    bench = await start(FakeShardKind(block_size=4, block_count=13))
    bench.shards.hold()
    leaving = bench.submit(make_request([1] * 20, 20))
    staying = bench.submit(make_request([2] * 4, 5))
    await bench.shards.step_held()
    waiting = bench.submit(make_request([3] * 20, 15))
    bench.batcher.cancel(leaving)
    bench.shards.release()

    answers = [token_ids(await read_all(entry.stream)) for entry in (staying, waiting)]

    assert answers == [expected_ids([2] * 4, 5), expected_ids([3] * 20, 15)]
    methods = [method for method, _, _ in bench.engine.calls]
    assert methods.index("filter_batch") < methods.index("prefill", 1)


async def test_a_request_cancelled_while_the_shard_drops_another_keeps_its_blocks_until_it_is_dropped_too(
    start: StartBench,
) -> None:
    # 12 blocks: the new request needs those of both that leave.
    bench = await start(FakeShardKind(block_size=4, block_count=13))
    bench.shards.hold()
    first, second, staying = (bench.submit(make_request([n] * 8, 9)) for n in (1, 2, 3))
    await bench.shards.step_held()
    waiting = bench.submit(make_request([4] * 12, 21))
    filter_batch = bench.shards.filter_batch

    async def filter_while_another_leaves(batch_id: int, request_ids: Iterable[int]) -> pb.CachedBatch:
        bench.batcher.cancel(second)
        return await filter_batch(batch_id, request_ids)

    bench.shards.filter_batch = filter_while_another_leaves
    bench.batcher.cancel(first)
    bench.shards.release()

    answers = [token_ids(await read_all(entry.stream)) for entry in (staying, waiting)]

    assert answers == [expected_ids([3] * 8, 9), expected_ids([4] * 12, 21)]
    told = [(method, ids) for method, _, ids in bench.calls("filter_batch", "prefill")[1:]]
    assert told == [
        ("filter_batch", [second.id, staying.id]),
        ("filter_batch", [staying.id]),
        ("prefill", [waiting.id]),
    ]
    await bench.at_rest()
    assert nothing_is_left(bench)


async def test_cancelling_one_of_two_unjoined_batches_filters_that_one(start: StartBench) -> None:
    bench = await start(TGI_PADDED, policy=JoinPolicy(waiting_served_ratio=0.0))
    bench.shards.hold()
    first = bench.submit(make_request([1] * 4, 5))
    await bench.shards.step_held()
    second = bench.submit(make_request([2] * 4, 5))

    def leave_meanwhile(request: pb.PrefillRequest) -> pb.PrefillResponse:
        if request.batch.id == 1:
            bench.batcher.cancel(second)
        return bench.engine.prefill(request)

    bench.shards.prefill_hook = leave_meanwhile
    bench.shards.release()
    await read_all(first.stream)
    await bench.at_rest()

    assert bench.engine.calls[:4] == [
        ("prefill", [0], [0]),
        ("prefill", [1], [1]),
        ("clear_cache", [1], []),
        ("decode", [0], [0]),
    ]


async def test_cancelling_everything_at_every_moment_leaves_nothing(start: StartBench) -> None:
    for steps in range(8):
        bench = await start(PAGED, max_batch_prefill_tokens=32)
        entries = [bench.submit(make_request([n] * 30, 4)) for n in range(1, 4)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for entry in entries:
            bench.batcher.cancel(entry)
        await bench.at_rest()
        assert nothing_is_left(bench)


async def test_cancelling_what_has_ended_does_nothing(start: StartBench) -> None:
    bench = await start(PAGED)
    entry = bench.submit(make_request([1, 2], 2))
    await read_all(entry.stream)

    bench.batcher.cancel(entry)
    await bench.at_rest()

    assert await bench.generate(make_request([3], 2)) == expected_ids([3], 2)
