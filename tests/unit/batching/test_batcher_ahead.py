"""Steps in flight: the next step is sent before the last one is answered, where the shards allow it."""

import asyncio
from collections.abc import Iterable

import pytest

from support.batcher_bench import Bench, StartBench
from support.fake_engine import (
    PAGED,
    PAGED_AHEAD,
    TGI_PADDED,
    TGI_PAGED,
    FakeShardError,
    FakeShardKind,
)
from support.generations import expected_ids, make_request, read_all, token_ids
from tgi_proto import generate_pb2 as pb
from tgi_router.batching.entry import Entry
from tgi_router.client.shard import ShardUnavailableError
from tgi_router.generation import ShardError

SMALL_AHEAD = FakeShardKind(block_size=4, block_count=13, max_inflight_steps=2)


async def read_ids(entry: Entry) -> list[int]:
    return token_ids(await read_all(entry.stream))


async def error_of(entry: Entry) -> str:
    with pytest.raises(ShardError) as failure:
        await read_all(entry.stream)
    return str(failure.value)


async def nothing_is_left(bench: Bench) -> None:
    await bench.at_rest()
    metrics = bench.metrics
    assert bench.engine.batches == {}
    assert bench.shards.waiting == 0
    assert [g.value for g in (metrics.queue_size, metrics.batch_current_size, metrics.kv_blocks_used)] == [
        0,
        0,
        0,
    ]


async def test_the_next_step_is_sent_while_the_last_one_runs(start: StartBench) -> None:
    bench = await start(PAGED_AHEAD)
    bench.shards.hold()
    entry = bench.submit(make_request([1, 2], 5))

    await bench.shards.steps_sent(2)

    assert bench.engine.calls == []
    bench.shards.let_one_end()
    assert token_ids(await entry.stream.take()) == expected_ids([1, 2], 1)
    await bench.shards.steps_sent(2)
    bench.shards.release()
    assert await read_ids(entry) == expected_ids([1, 2], 5)[1:]
    assert bench.shards.most_waiting == 2
    await nothing_is_left(bench)


@pytest.mark.parametrize("kind", [PAGED, TGI_PAGED, TGI_PADDED], ids=["paged", "tgi", "padded"])
async def test_shards_that_allow_one_step_never_see_two(start: StartBench, kind: FakeShardKind) -> None:
    bench = await start(kind)

    await bench.generate_all([make_request([n] * n, 3 + n) for n in range(1, 9)])

    assert bench.shards.most_waiting == 1


async def test_shards_that_cannot_chunk_get_one_step_at_a_time_whatever_they_allow(start: StartBench) -> None:
    kind = FakeShardKind(support_chunking=False, max_inflight_steps=2)
    bench = await start(kind)

    answers = await bench.generate_all([make_request([n] * n, 3 + n) for n in range(1, 9)])

    assert answers == [expected_ids([n] * n, 3 + n) for n in range(1, 9)]
    assert bench.shards.most_waiting == 1


async def test_a_new_request_starts_in_a_step_that_is_sent_ahead(start: StartBench) -> None:
    bench = await start(PAGED_AHEAD)
    bench.shards.hold()
    first = bench.submit(make_request([1, 2, 3], 9))
    await bench.shards.steps_sent(2)
    second = bench.submit(make_request([4, 5], 9))
    bench.shards.let_one_end()
    await first.stream.take()
    await bench.shards.steps_sent(2)

    assert bench.metrics.batch_concat.labels("chunking").value == 1
    bench.shards.release()
    answers = [await read_ids(first), await read_ids(second)]

    assert answers == [expected_ids([1, 2, 3], 9)[1:], expected_ids([4, 5], 9)]
    assert [method for method, _, _ in bench.engine.calls[:3]] == ["prefill", "decode", "prefill"]
    assert bench.engine.step_tokens[:4] == [3, 1, 1 + 2, 1 + 1]
    assert bench.shards.most_waiting == 2


async def test_requests_sent_to_join_a_batch_that_ends_meanwhile_run_without_it(start: StartBench) -> None:
    bench = await start(PAGED_AHEAD)
    bench.shards.hold()
    first = bench.submit(make_request([1, 2, 3], 2))
    await bench.shards.steps_sent(2)
    second = bench.submit(make_request([4, 5], 3))
    bench.shards.let_one_end()
    await first.stream.take()
    await bench.shards.steps_sent(2)
    bench.shards.release()

    assert await read_ids(first) == expected_ids([1, 2, 3], 2)[1:]
    assert await read_ids(second) == expected_ids([4, 5], 3)
    # The second step ended the batch, and by then the third had been sent to join it.
    assert bench.engine.calls[:4] == [
        ("prefill", [0], [0]),
        ("decode", [0], [0]),
        ("prefill", [0, 1], [1]),
        ("decode", [0], [1]),
    ]
    await nothing_is_left(bench)


async def test_no_step_is_sent_ahead_of_the_one_that_brings_all_last_tokens(start: StartBench) -> None:
    bench = await start(PAGED_AHEAD)

    assert await bench.generate(make_request([1, 2], 3)) == expected_ids([1, 2], 3)

    await nothing_is_left(bench)
    assert bench.engine.calls == [("prefill", [0], [0]), ("decode", [0], [0]), ("decode", [0], [0])]


async def test_prompts_that_are_cut_still_fill_every_step(start: StartBench) -> None:
    kind = FakeShardKind(block_size=4, block_count=400, max_inflight_steps=2)
    bench = await start(kind, max_batch_prefill_tokens=32)
    requests = [make_request([n] * 40, 2) for n in range(1, 7)]

    answers = await bench.generate_all(requests)

    assert answers == [expected_ids(request.input_ids, 2) for request in requests]
    assert max(bench.engine.step_tokens) == 32
    assert bench.engine.step_tokens[:7] == [32] * 7


async def test_steps_sent_ahead_keep_to_the_prefill_budget(start: StartBench) -> None:
    kind = FakeShardKind(block_size=4, block_count=400, max_inflight_steps=2)
    bench = await start(kind, max_batch_prefill_tokens=16)
    bench.shards.hold()
    running = [bench.submit(make_request([n], 30)) for n in range(1, 6)]
    await bench.shards.steps_sent(2)
    later = [bench.submit(make_request([9] * 20, 3)), bench.submit(make_request([8] * 4, 3))]
    bench.shards.release()

    assert [await read_ids(entry) for entry in running] == [expected_ids([n], 30) for n in range(1, 6)]
    assert [await read_ids(entry) for entry in later] == [
        expected_ids([9] * 20, 3),
        expected_ids([8] * 4, 3),
    ]
    assert max(bench.engine.step_tokens) == 16


async def test_max_batch_size_counts_requests_whose_first_step_is_in_flight(start: StartBench) -> None:
    bench = await start(PAGED_AHEAD, max_batch_size=2)
    bench.shards.hold()
    first = bench.submit(make_request([1], 9))
    await bench.shards.steps_sent(2)
    others = [bench.submit(make_request([n], 9)) for n in (2, 3)]
    bench.shards.release()

    await asyncio.gather(*(read_all(entry.stream) for entry in (first, *others)))

    assert max(len(ids) for _, _, ids in bench.calls("decode")) == 2


async def test_who_leaves_is_dropped_once_no_step_is_in_flight_and_only_then_are_the_blocks_free(
    start: StartBench,
) -> None:
    # 12 blocks: the new request needs those of the one that leaves.
    bench = await start(SMALL_AHEAD)
    bench.shards.hold()
    leaving = bench.submit(make_request([1] * 20, 20))
    staying = bench.submit(make_request([2] * 4, 5))
    await bench.shards.steps_sent(2)
    waiting = bench.submit(make_request([3] * 20, 15))
    bench.batcher.cancel(leaving)
    bench.shards.let_one_end()
    await staying.stream.take()
    await bench.shards.steps_sent(1)
    in_flight = []
    filter_batch = bench.shards.filter_batch

    async def watch_filter(batch_id: int, request_ids: Iterable[int]) -> pb.CachedBatch:
        in_flight.append((bench.shards.waiting, bench.metrics.kv_blocks_used.value))
        return await filter_batch(batch_id, request_ids)

    bench.shards.filter_batch = watch_filter  # type: ignore[method-assign]
    bench.shards.release()

    assert await read_ids(staying) == expected_ids([2] * 4, 5)[1:]
    assert await read_ids(waiting) == expected_ids([3] * 20, 15)
    assert in_flight == [(0, 12)]
    methods = [method for method, _, _ in bench.engine.calls]
    assert methods[:4] == ["prefill", "decode", "filter_batch", "prefill"]
    await nothing_is_left(bench)


async def test_a_failed_step_ends_its_requests_once_though_the_next_was_sent(start: StartBench) -> None:
    bench = await start(PAGED_AHEAD)
    bench.shards.hold()
    entries = [bench.submit(make_request([n] * 5, 9)) for n in (1, 2)]
    await bench.shards.steps_sent(2)
    bench.engine.failures += [None, FakeShardError("out of memory")]
    bench.shards.release()

    assert [await error_of(entry) for entry in entries] == ["out of memory"] * 2

    await nothing_is_left(bench)
    assert bench.metrics.batch_inference_failure.labels("decode").value == 1
    assert bench.metrics.batch_inference_success.labels("decode").value == 1
    assert bench.metrics.batch_inference_count.labels("decode").value == 2
    assert await bench.generate(make_request([8], 3)) == expected_ids([8], 3)


async def test_requests_that_were_sent_behind_a_step_that_failed_are_told_and_cleared(
    start: StartBench,
) -> None:
    bench = await start(PAGED_AHEAD)
    bench.shards.hold()
    first = bench.submit(make_request([1] * 5, 9))
    await bench.shards.steps_sent(2)
    second = bench.submit(make_request([2] * 5, 9))
    bench.engine.failures += [None, FakeShardError("out of memory")]
    bench.shards.let_one_end()
    await first.stream.take()
    await bench.shards.steps_sent(2)
    bench.shards.release()

    assert [await error_of(entry) for entry in (first, second)] == ["out of memory"] * 2

    await nothing_is_left(bench)
    assert [batch_ids for _, batch_ids, _ in bench.calls("clear_cache")] == [[0], [1]]
    assert await bench.generate(make_request([8], 3)) == expected_ids([8], 3)


async def test_blocks_of_a_failed_step_are_given_to_nobody_while_the_next_one_runs(start: StartBench) -> None:
    bench = await start(SMALL_AHEAD)
    bench.shards.hold()
    failing = bench.submit(make_request([1] * 20, 20))
    await bench.shards.steps_sent(2)
    waiting = bench.submit(make_request([2] * 20, 20))
    bench.engine.failures.append(FakeShardError("out of memory"))
    bench.shards.let_one_end()

    assert await error_of(failing) == "out of memory"

    assert bench.shards.waiting == 1
    assert len(bench.calls("prefill")) == 1
    bench.shards.release()
    assert await read_ids(waiting) == expected_ids([2] * 20, 20)
    assert [method for method, _, _ in bench.engine.calls[:4]] == [
        "prefill",
        "decode",
        "clear_cache",
        "prefill",
    ]


async def test_a_shard_that_dies_with_steps_in_flight_fails_everyone_once(start: StartBench) -> None:
    bench = await start(PAGED_AHEAD, max_batch_size=1)
    bench.shards.hold()
    entries = [bench.submit(make_request([n], 9)) for n in (1, 2)]
    await bench.shards.steps_sent(2)
    gone = ShardUnavailableError("cannot reach the shard")
    bench.shards.broken = dict.fromkeys(("prefill", "decode", "filter_batch", "clear_cache"), gone)
    bench.shards.release()

    assert [await error_of(entry) for entry in entries] == ["cannot reach the shard"] * 2

    bench.shards.broken = {}
    await nothing_is_left(bench)
    assert await bench.generate(make_request([8], 3)) == expected_ids([8], 3)


async def test_closing_gives_up_steps_in_flight(start: StartBench) -> None:
    bench = await start(PAGED_AHEAD)
    bench.shards.hold()
    entry = bench.submit(make_request([1], 9))
    await bench.shards.steps_sent(2)

    await bench.batcher.close()

    assert await error_of(entry) == "the server is shutting down"
    assert bench.shards.waiting == 0
    assert bench.metrics.kv_blocks_used.value == 0


async def test_health_hears_of_every_answer(start: StartBench) -> None:
    bench = await start(PAGED_AHEAD)
    finished = 0
    step_finished = bench.batcher.progress.step_finished

    def count_answer() -> None:
        nonlocal finished
        finished += 1
        step_finished()

    bench.batcher.progress.step_finished = count_answer  # type: ignore[method-assign]
    await bench.generate(make_request([1], 5))
    await bench.at_rest()

    assert finished == len(bench.calls("prefill", "decode"))
