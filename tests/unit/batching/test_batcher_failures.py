"""What goes wrong ends the requests it concerns; all others, and the batcher, go on."""

import pytest
from structlog.testing import capture_logs

from support.batcher_bench import Bench, StartBench
from support.fake_engine import (
    PAGED,
    PAGED_AHEAD,
    PAGED_WHOLE_PROMPTS,
    TGI_PADDED,
    TGI_PAGED,
    FakeShardError,
    FakeShardKind,
)
from support.generations import expected_ids, make_request, read_all, token_ids
from tgi_proto import generate_pb2 as pb
from tgi_router.batching.budget import RequestTooLargeError
from tgi_router.batching.entry import Entry
from tgi_router.batching.room import JoinPolicy
from tgi_router.client.messages import StepResult
from tgi_router.client.shard import ShardUnavailableError
from tgi_router.generation import ShardError

KINDS = pytest.mark.parametrize(
    "kind",
    [PAGED, PAGED_AHEAD, PAGED_WHOLE_PROMPTS, TGI_PAGED, TGI_PADDED],
    ids=["paged", "ahead", "whole", "tgi", "padded"],
)


async def error_of(entry: Entry) -> str:
    with pytest.raises(ShardError) as failure:
        await read_all(entry.stream)
    return str(failure.value)


async def still_works(bench: Bench) -> None:
    assert await bench.generate(make_request([8, 8, 8], 3)) == expected_ids([8, 8, 8], 3)
    await bench.at_rest()
    assert bench.engine.batches == {}
    assert bench.metrics.kv_blocks_used.value == 0
    assert bench.metrics.batch_current_size.value == 0


@KINDS
async def test_a_failed_prefill_fails_its_requests_and_is_cleared(
    start: StartBench, kind: FakeShardKind
) -> None:
    bench = await start(kind)
    bench.engine.failures.append(FakeShardError("out of memory"))
    entries = [bench.submit(make_request([n] * 20, 3)) for n in (1, 2)]

    assert [await error_of(entry) for entry in entries] == ["out of memory"] * 2

    await bench.at_rest()
    assert ("clear_cache", [0], []) in bench.engine.calls
    assert bench.metrics.batch_inference_failure.labels("prefill").value == 1
    await still_works(bench)


@KINDS
async def test_a_failed_decode_fails_everyone_in_it(start: StartBench, kind: FakeShardKind) -> None:
    bench = await start(kind)
    entries = [bench.submit(make_request([n] * 20, 5)) for n in (1, 2)]
    await entries[0].stream.take()
    bench.engine.failures.append(FakeShardError("out of memory"))

    assert [await error_of(entry) for entry in entries] == ["out of memory"] * 2

    assert bench.metrics.batch_inference_failure.labels("decode").value == 1
    await still_works(bench)


async def test_a_failed_mixed_step_fails_running_and_new_requests(start: StartBench) -> None:
    bench = await start(PAGED)
    bench.shards.hold()
    running = bench.submit(make_request([1] * 20, 9))
    await bench.shards.step_held()
    new = bench.submit(make_request([2] * 20, 9))
    bench.engine.failures += [None, FakeShardError("out of memory")]
    bench.shards.release()
    await running.stream.take()

    assert [await error_of(entry) for entry in (running, new)] == ["out of memory"] * 2

    assert [batch_ids for _, batch_ids, _ in bench.calls("clear_cache")] == [[0], [1]]
    await still_works(bench)


@pytest.mark.parametrize("kind", [PAGED_WHOLE_PROMPTS, TGI_PADDED], ids=["whole", "padded"])
async def test_a_prefill_that_fails_alone_spares_the_running_batch(
    start: StartBench, kind: FakeShardKind
) -> None:
    bench = await start(kind, policy=JoinPolicy(waiting_served_ratio=0.0))
    bench.shards.hold()
    running = bench.submit(make_request([1] * 20, 9))
    await bench.shards.step_held()
    new = bench.submit(make_request([2] * 20, 9))
    bench.shards.release()
    await running.stream.take()
    bench.engine.failures.append(FakeShardError("out of memory"))

    assert await error_of(new) == "out of memory"

    assert len(token_ids(await read_all(running.stream))) == 8
    await still_works(bench)


async def test_tokens_that_came_before_a_failure_are_still_read(start: StartBench) -> None:
    bench = await start(PAGED)
    bench.engine.failures += [None, FakeShardError("out of memory")]
    entry = bench.submit(make_request([1] * 20, 5))
    await bench.at_rest()

    assert token_ids(await entry.stream.take()) == expected_ids([1] * 20, 1)
    assert await error_of(entry) == "out of memory"


async def test_what_a_failed_step_computed_is_not_shared(start: StartBench) -> None:
    bench = await start(PAGED)
    bench.engine.failures.append(FakeShardError("out of memory"))
    await error_of(bench.submit(make_request(list(range(40)), 3)))
    await bench.at_rest()

    assert await bench.generate(make_request(list(range(40)), 3)) == expected_ids(list(range(40)), 3)

    assert bench.engine.step_tokens[0] == 40


async def test_a_request_that_a_shard_refuses_fails_alone(start: StartBench) -> None:
    bench = await start(PAGED)
    bench.engine.refuse = {13}
    entries = [bench.submit(make_request([n] * 20, 3)) for n in (1, 13, 2)]

    assert await error_of(entries[1]) == "this prompt is refused"

    assert token_ids(await read_all(entries[0].stream)) == expected_ids([1] * 20, 3)
    assert token_ids(await read_all(entries[2].stream)) == expected_ids([2] * 20, 3)
    assert bench.calls("clear_cache") == []
    await still_works(bench)


async def test_a_step_in_which_every_request_is_refused_ends_the_batch(start: StartBench) -> None:
    bench = await start(PAGED)
    bench.engine.refuse = {13}

    assert await error_of(bench.submit(make_request([13], 3))) == "this prompt is refused"

    await still_works(bench)


@KINDS
async def test_a_dead_shard_fails_running_and_queued_requests_at_once(
    start: StartBench, kind: FakeShardKind
) -> None:
    bench = await start(kind, max_batch_size=1)
    gone = ShardUnavailableError("cannot reach the shard")
    entries = [bench.submit(make_request([n] * 20, 5)) for n in (1, 2, 3)]
    await entries[0].stream.take()
    bench.shards.broken = dict.fromkeys(("prefill", "decode", "filter_batch", "clear_cache"), gone)

    assert [await error_of(entry) for entry in entries] == ["cannot reach the shard"] * 3

    assert await error_of(bench.submit(make_request([4], 1))) == "cannot reach the shard"
    bench.shards.broken = {}
    bench.engine.batches.clear()
    await still_works(bench)


@pytest.mark.parametrize("method", ["filter_batch", "clear_cache"])
async def test_a_batch_whose_bookkeeping_fails_is_lost_but_nothing_else_is(
    start: StartBench, method: str
) -> None:
    bench = await start(PAGED)
    bench.shards.hold()
    leaving = bench.submit(make_request([1] * 20, 9))
    others = [bench.submit(make_request([2] * 20, 9))] if method == "filter_batch" else []
    await bench.shards.step_held()
    bench.shards.broken = {method: ShardError("bookkeeping is broken")}
    bench.batcher.cancel(leaving)
    bench.shards.release()

    for entry in others:
        assert await error_of(entry) == "bookkeeping is broken"
    await bench.at_rest()

    bench.shards.broken = {}
    bench.engine.batches.clear()
    await still_works(bench)


async def test_a_request_that_the_shard_forgot_fails(start: StartBench) -> None:
    bench = await start(PAGED)
    bench.shards.hold()
    entries = [bench.submit(make_request([n] * 20, 9)) for n in (1, 2)]
    await bench.shards.step_held()
    bench.shards.release()
    await entries[0].stream.take()
    [batch] = bench.engine.batches.values()
    del batch.sequences[0]

    assert "lost the request" in await error_of(entries[0])

    assert len(token_ids(await read_all(entries[1].stream))) == 9
    await still_works(bench)


async def test_a_batch_that_the_shard_forgot_fails_its_requests(
    start: StartBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await start(PAGED)
    entry = bench.submit(make_request([1] * 20, 9))
    await entry.stream.take()

    async def forgetful_decode(_batches: object, *, ahead: bool) -> StepResult:
        bench.engine.batches.clear()
        return StepResult([], None, {}, 0.0, 0.0, None)

    with monkeypatch.context() as patch:
        patch.setattr(bench.shards, "decode", forgetful_decode)
        assert "lost the request" in await error_of(entry)

    await still_works(bench)


@pytest.mark.parametrize(
    "nonsense",
    [
        pb.Generation(request_id=0, generated_text=pb.GeneratedText(text="x", generated_tokens=1)),
        pb.Generation(request_id=0, tokens=pb.Tokens(ids=[1], logprobs=[0.0], is_special=[False])),
        pb.Generation(request_id=0, tokens=pb.Tokens(ids=[1, 2], texts=["a"], logprobs=[0.0])),
        pb.Generation(
            request_id=0,
            tokens=pb.Tokens(ids=[1], texts=["a"], logprobs=[0.0], is_special=[False]),
            generated_text=pb.GeneratedText(text="x", generated_tokens=1, finish_reason=77),  # type: ignore[arg-type]
        ),
    ],
    ids=["end without token", "token without text", "tokens without text", "unknown reason"],
)
async def test_an_answer_that_makes_no_sense_fails_its_request_alone(
    start: StartBench, nonsense: pb.Generation
) -> None:
    bench = await start(PAGED)
    prefill = bench.engine.prefill

    def confused_prefill(request: pb.PrefillRequest) -> pb.PrefillResponse:
        answer = prefill(request)
        answer.generations[0].CopyFrom(nonsense)
        return answer

    bench.shards.prefill_hook = confused_prefill
    confused, other = (bench.submit(make_request([n] * 20, 3)) for n in (1, 2))
    assert "makes no sense" in await error_of(confused)
    bench.shards.prefill_hook = None

    assert token_ids(await read_all(other.stream)) == expected_ids([2] * 20, 3)
    await still_works(bench)


async def test_generations_for_strangers_are_ignored(start: StartBench) -> None:
    bench = await start(PAGED)
    prefill = bench.engine.prefill

    def chatty_prefill(request: pb.PrefillRequest) -> pb.PrefillResponse:
        answer = prefill(request)
        answer.generations.add(request_id=999)
        answer.errors.add(request_id=998, message="who?")
        return answer

    bench.shards.prefill_hook = chatty_prefill

    await still_works(bench)


@KINDS
@pytest.mark.parametrize("method", ["prefill", "decode"])
async def test_an_error_that_should_not_exist_is_survived_and_logged_once(
    start: StartBench, kind: FakeShardKind, method: str
) -> None:
    bench = await start(kind)
    bench.shards.broken = {method: RuntimeError("a bug")}
    with capture_logs() as logs:
        entries = [bench.submit(make_request([n] * 20, 3)) for n in (1, 2)]
        errors = [await error_of(entry) for entry in entries]
        await bench.at_rest()

    assert errors == ["internal error while batching"] * 2
    assert len(logs) == 1
    bench.shards.broken = {}
    await still_works(bench)


async def test_a_request_that_breaks_admission_does_not_block_the_queue(
    start: StartBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await start(PAGED)
    poisoned = make_request([66], 3)
    allocate = bench.batcher._allocator.allocate  # type: ignore[union-attr]

    def picky_allocate(tokens: int, prompt: list[int] | None = None) -> object:
        if prompt == [66]:
            raise RuntimeError("a bug")
        return allocate(tokens, prompt)

    monkeypatch.setattr(bench.batcher._allocator, "allocate", picky_allocate)
    entries = [bench.submit(poisoned), bench.submit(make_request([5], 2))]

    assert await error_of(entries[0]) == "internal error while batching"

    assert token_ids(await read_all(entries[1].stream)) == expected_ids([5], 2)
    await still_works(bench)


async def test_a_request_that_can_never_fit_is_refused_at_the_door(start: StartBench) -> None:
    bench = await start(FakeShardKind(block_size=4, block_count=11))

    with pytest.raises(RequestTooLargeError, match="only 10 blocks exist"):
        bench.submit(make_request([1] * 20, 22))

    assert await bench.generate(make_request([1] * 20, 21)) == expected_ids([1] * 20, 21)


async def test_closing_ends_every_request_with_an_error(start: StartBench) -> None:
    bench = await start(PAGED, max_batch_size=1)
    entries = [bench.submit(make_request([n] * 4, 90)) for n in (1, 2)]
    await entries[0].stream.take()

    await bench.batcher.close()

    assert [await error_of(entry) for entry in entries] == ["the server is shutting down"] * 2
    with pytest.raises(ShardError, match="shutting down"):
        bench.submit(make_request([3], 1))
    assert bench.metrics.kv_blocks_used.value == 0
