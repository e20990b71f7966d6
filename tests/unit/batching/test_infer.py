"""Permits and streams: how many requests run, what ends them, what is counted."""

import asyncio

import pytest

from support.batcher_bench import Bench, StartBench
from support.fake_engine import PAGED, FakeShardError, FakeShardKind
from support.generations import expected_ids, make_request, read_all, token_ids
from tgi_router.batching.budget import RequestTooLargeError
from tgi_router.generation import EndEvent, IncompleteGenerationError, OverloadedError, ShardError
from tgi_router.infer import Inference


def inference_on(bench: Bench, permits: int = 4) -> Inference:
    return Inference(bench.batcher, bench.metrics, max_concurrent_requests=permits)


def failures(bench: Bench, cause: str) -> int:
    return bench.metrics.request_failure.labels(cause).value


def count(bench: Bench, histogram: str) -> float:
    found: dict[str, float] = {s: value for s, _, value in getattr(bench.metrics, histogram).samples()}
    return found["_count"]


async def test_a_stream_yields_every_event_and_then_ends(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench)

    with inference.acquire() as permit:
        events = await read_all(inference.stream(permit, make_request([1, 2, 3], 5)))

    assert token_ids(events) == expected_ids([1, 2, 3], 5)
    assert isinstance(events[-1], EndEvent)
    assert inference.free_permits == 4


async def test_events_can_be_taken_together(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench)
    with inference.acquire() as permit:
        stream = inference.stream(permit, make_request([1, 2, 3], 5))
        await bench.at_rest()

        assert token_ids(await stream.take()) == expected_ids([1, 2, 3], 5)
        assert await stream.take() == []


async def test_permits_are_given_out_until_none_is_left(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench, permits=2)
    first, second = inference.acquire(), inference.acquire()

    with pytest.raises(OverloadedError, match="Model is overloaded"):
        inference.acquire()

    assert failures(bench, "overloaded") == 1
    assert bench.metrics.request_refused.labels("overloaded").value == 1
    assert bench.metrics.request_count.value == 3
    first.release()
    first.release()
    assert inference.free_permits == 1
    second.release()
    assert inference.free_permits == 2


async def test_a_permit_for_several_generations_is_all_or_nothing(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench, permits=3)
    with inference.acquire(members=2) as permit:
        with pytest.raises(OverloadedError):
            inference.acquire(members=2)
        streams = [inference.stream(permit, make_request([n], 3)) for n in (1, 2)]
        with pytest.raises(RuntimeError):
            inference.stream(permit, make_request([3], 3))
        answers = [token_ids(await read_all(stream)) for stream in streams]
        assert bench.metrics.request_success.value == 1
        streams[0].close()
        assert inference.free_permits == 2

    assert answers == [expected_ids([n], 3) for n in (1, 2)]
    assert inference.free_permits == 3
    assert bench.metrics.request_count.value == 2
    assert count(bench, "request_duration") == 1


async def test_a_permit_is_held_until_its_stream_is_closed(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench)
    permit = inference.acquire()
    stream = inference.stream(permit, make_request([1], 2))

    await read_all(stream)

    assert inference.free_permits == 3
    stream.close()
    assert inference.free_permits == 4


async def test_closing_a_stream_cancels_its_generation(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench)
    permit = inference.acquire()
    stream = inference.stream(permit, make_request([1, 2, 3], 90))
    await stream.take()

    stream.close()
    stream.close()
    await bench.at_rest()

    assert bench.engine.batches == {}
    assert failures(bench, "dropped") == 1
    assert await stream.take() == []


async def test_leaving_the_permit_closes_streams_that_are_left_open(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench)

    with inference.acquire() as permit:
        stream = inference.stream(permit, make_request([1, 2, 3], 90))
        await stream.take()
    await bench.at_rest()

    assert bench.engine.batches == {}
    assert inference.free_permits == 4


async def test_a_cancelled_reader_frees_everything(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench)
    bench.shards.hold()

    async def answer() -> None:
        with inference.acquire() as permit:
            await read_all(inference.stream(permit, make_request([1, 2, 3], 90)))

    handler = asyncio.create_task(answer())
    await bench.shards.step_held()
    handler.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handler
    bench.shards.release()
    await bench.at_rest()

    assert bench.engine.batches == {}
    assert bench.metrics.kv_blocks_used.value == 0
    assert inference.free_permits == 4
    assert failures(bench, "dropped") == 1


async def test_a_shard_failure_is_raised_and_counted_once(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench)
    bench.engine.failures.append(FakeShardError("out of memory"))
    with inference.acquire(members=2) as permit:
        streams = [inference.stream(permit, make_request([n], 3)) for n in (1, 2)]
        for stream in streams:
            with pytest.raises(ShardError, match="out of memory"):
                await stream.take()

    assert failures(bench, "generation") == 1
    assert failures(bench, "dropped") == 0
    assert bench.metrics.request_success.value == 0


async def test_events_that_stop_early_are_an_error(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench)
    bench.shards.hold()
    with inference.acquire() as permit:
        stream = inference.stream(permit, make_request([1], 3))
        await bench.shards.step_held()
        next(bench.batcher._flight.entries()).stream.end()

        with pytest.raises(IncompleteGenerationError):
            await stream.take()

    bench.shards.release()
    assert failures(bench, "incomplete") == 1


async def test_a_request_that_can_never_run_is_refused_and_counted(start: StartBench) -> None:
    bench = await start(FakeShardKind(block_size=4, block_count=5))
    inference = inference_on(bench)

    with pytest.raises(RequestTooLargeError), inference.acquire() as permit:
        inference.stream(permit, make_request([1] * 20, 20))

    assert failures(bench, "validation") == 1
    assert inference.free_permits == 4


async def test_a_finished_request_is_measured_once(start: StartBench) -> None:
    bench = await start(PAGED)
    inference = inference_on(bench)
    with inference.acquire() as permit:
        await read_all(inference.stream(permit, make_request([1] * 7, 5)))

    for name in (
        "request_duration",
        "request_validation_duration",
        "request_queue_duration",
        "request_inference_duration",
        "request_mean_time_per_token_duration",
        "request_generated_tokens",
        "request_input_length",
        "request_max_new_tokens",
        "request_time_to_first_token_duration",
    ):
        assert count(bench, name) == 1, name
    assert count(bench, "request_inter_token_latency_duration") == 4
    assert count(bench, "request_skipped_tokens") == 5
    assert bench.metrics.request_success.value == 1
    assert bench.metrics.request_count.value == 1
    assert bench.metrics.batch_inference_success.labels("prefill").value == 1
    assert bench.metrics.batch_inference_success.labels("decode").value == 4
