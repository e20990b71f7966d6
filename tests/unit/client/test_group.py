"""Calls to shards over real sockets: to all of them, answers merged, failures told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.fake_engine import PAGED, PAGED_AHEAD, TGI_PADDED, FakeShardError, FakeShardKind
from support.fake_shard import FakeShards
from support.generations import expected_ids, make_limits, make_request, read_all, token_ids
from tgi_proto import generate_pb2 as pb
from tgi_router.batching.batcher import Batcher
from tgi_router.client.group import ShardGroup, merge_steps
from tgi_router.client.messages import Placement, write_request
from tgi_router.client.shard import ShardUnavailableError
from tgi_router.generation import ShardError
from tgi_router.telemetry.metrics import Metrics


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[FakeShards]:
    async with FakeShards(tmp_path / "shard", num_shard=2) as shards:
        yield shards


@pytest.fixture
async def group(served: FakeShards) -> AsyncIterator[ShardGroup]:
    group = await ShardGroup.connect(served.master)
    yield group
    await group.close()


async def batch_of(group: ShardGroup, *ids: int, batch_id: int = 0, new_tokens: int = 3) -> pb.Batch:
    info = await group.info()
    messages = []
    for place, request_id in enumerate(ids):
        placement = Placement([1 + 3 * place, 2 + 3 * place, 3 + 3 * place], 9, 0, None)
        messages.append(write_request(request_id, make_request([5] * 4, new_tokens), placement, info))
    return pb.Batch(id=batch_id, requests=messages, size=len(messages))


async def test_one_shard_leads_to_all(served: FakeShards, group: ShardGroup) -> None:
    assert (await group.info()).block_size == 4
    await group.clear_cache()
    assert [service.engine.calls for service in served.services] == [[("clear_cache", [], [])]] * 2


async def test_calls_reach_every_shard_and_answers_are_joined(served: FakeShards, group: ShardGroup) -> None:
    result = await group.prefill(await batch_of(group, 0, 1, 2, 3))

    assert sorted(generation.request_id for generation in result.generations) == [0, 1, 2, 3]
    assert result.batch is not None
    assert list(result.batch.request_ids) == [0, 1, 2, 3]
    kept = await group.filter_batch(result.batch.id, [1, 2])
    assert list(kept.request_ids) == [1, 2]
    result = await group.decode([kept])
    assert sorted(generation.request_id for generation in result.generations) == [1, 2]
    await group.clear_cache(kept.id)
    await group.clear_cache()
    assert [service.engine.calls for service in served.services] == [
        [
            ("prefill", [0], [0, 1, 2, 3]),
            ("filter_batch", [0], [1, 2]),
            ("decode", [0], [1, 2]),
            ("clear_cache", [0], []),
            ("clear_cache", [], []),
        ]
    ] * 2


async def test_refused_requests_come_back_with_their_reasons(served: FakeShards, group: ShardGroup) -> None:
    for service in served.services:
        service.engine.refuse = {5}

    result = await group.prefill(await batch_of(group, 3))

    assert result.errors == {3: "this prompt is refused"}
    assert result.batch is None


async def test_an_error_keeps_the_shards_own_words(served: FakeShards, group: ShardGroup) -> None:
    with pytest.raises(ShardError, match=r"^batch 77 is unknown$") as failure:
        await group.decode([pb.CachedBatch(id=77)])

    assert not isinstance(failure.value, ShardUnavailableError)


async def test_one_failing_shard_fails_the_call_without_waiting_for_the_others(
    served: FakeShards, group: ShardGroup
) -> None:
    served.services[0].hang = {"prefill"}
    served.services[1].engine.failures.append(FakeShardError("rank 1 is broken"))

    async with asyncio.timeout(10):
        with pytest.raises(ShardError, match="rank 1 is broken"):
            await group.prefill(await batch_of(group, 0))


async def test_a_shard_that_dies_in_a_call_is_unavailable(served: FakeShards, group: ShardGroup) -> None:
    served.services[0].hang = served.services[1].hang = {"prefill"}
    call = asyncio.create_task(group.prefill(await batch_of(group, 0)))
    await asyncio.sleep(0)
    await served.kill(1)

    async with asyncio.timeout(10):
        with pytest.raises(ShardUnavailableError, match="cannot reach the shard"):
            await call
        with pytest.raises(ShardUnavailableError, match="shard-1"):
            await group.decode([pb.CachedBatch(id=0)])


async def test_nobody_on_the_socket_is_said_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ShardUnavailableError, match="nowhere-0"):
        await ShardGroup.connect(tmp_path / "nowhere-0")


async def test_health_is_the_health_of_every_shard(served: FakeShards, group: ShardGroup) -> None:
    await group.health(5.0)
    served.services[0].unhealthy = "device lost"

    with pytest.raises(ShardError, match="device lost"):
        await group.health(5.0)


async def test_health_that_does_not_answer_in_time_is_an_error(served: FakeShards, group: ShardGroup) -> None:
    served.services[1].hang = {"health"}

    with pytest.raises(ShardError, match="did not answer in time"):
        await group.health(0.05)


async def test_answers_may_be_large(served: FakeShards, group: ShardGroup) -> None:
    served.services[0].filler = 6 * 2**20

    result = await group.prefill(await batch_of(group, 0))

    assert len(result.errors[2**63]) == 6 * 2**20


async def test_warmup_answers_with_the_least_of_all_shards(served: FakeShards, group: ShardGroup) -> None:
    batch = pb.Batch(id=0, requests=[pb.Request(truncate=8)], size=1)
    small = served.services[1].engine
    small.kind = FakeShardKind(block_count=20)

    answer = await group.warmup(pb.WarmupRequest(batch=batch, max_prefill_tokens=8))

    assert answer.max_supported_total_tokens == 20 * 4


async def test_steps_keep_their_order_though_the_second_is_sent_before_the_first_is_answered(
    tmp_path: Path,
) -> None:
    async with FakeShards(tmp_path / "ordered", PAGED_AHEAD, num_shard=2) as served:
        group = await ShardGroup.connect(served.master)
        batch = await batch_of(group, 0, 1)
        # So large that the small message behind it would overtake it.
        batch.requests[0].parameters.grammar = "x" * 8_000_000

        first, second = await asyncio.gather(
            group.prefill(batch), group.decode([pb.CachedBatch(id=0)], ahead=True)
        )

        assert [len(first.generations), len(second.generations)] == [2, 2]
        for service in served.services:
            assert [method for method, _, _ in service.engine.calls] == ["prefill", "decode"]
            assert service.sent_ahead == 1
        await group.close()


@pytest.mark.parametrize("kind", [PAGED, PAGED_AHEAD, TGI_PADDED], ids=["paged", "ahead", "padded"])
async def test_a_batcher_drives_real_shards(tmp_path: Path, kind: FakeShardKind) -> None:
    async with FakeShards(tmp_path / "driven", kind, num_shard=2) as served:
        group = await ShardGroup.connect(served.master)
        batcher = Batcher(
            group, make_limits(served.services[0].engine), Metrics(max_input_tokens=99, max_total_tokens=99)
        )
        batcher.start()
        requests = [make_request([n] * (n + 1), 2 + n % 5) for n in range(1, 12)]
        entries = [batcher.submit(request, arrived_at=0.0) for request in requests]

        answers = await asyncio.gather(*(read_all(entry.stream) for entry in entries))

        for request, events in zip(requests, answers, strict=True):
            assert token_ids(events) == expected_ids(request.input_ids, request.stopping.max_new_tokens)
        await batcher.close()
        await group.close()


def test_steps_are_as_slow_as_the_slowest_shard_and_the_last_one_knows_the_batch() -> None:
    fast = pb.DecodeResponse(forward_ns=10**9, total_ns=2 * 10**9, batch=pb.CachedBatch(id=1, size=5))
    slow = pb.DecodeResponse(
        forward_ns=3 * 10**9,
        decode_ns=10**9,
        concat_ns=5 * 10**8,
        total_ns=5 * 10**9,
        batch=pb.CachedBatch(id=1),
    )

    merged = merge_steps([slow, fast])

    assert merged.batch is not None
    assert merged.batch.size == 5
    assert (merged.forward_seconds, merged.decode_seconds, merged.concat_seconds) == (3.0, 1.0, 0.5)
    assert merge_steps([fast]).concat_seconds is None
