"""The batcher on shards with KV blocks: mixed steps, chunked prompts, shared beginnings."""

import asyncio

import pytest

from support.batcher_bench import StartBench
from support.fake_engine import (
    EOS_ID,
    PAGED,
    PAGED_AHEAD,
    PAGED_WHOLE_PROMPTS,
    TGI_PADDED,
    TGI_PAGED,
    FakeShardKind,
    counting_script,
)
from support.generations import end_of, expected_ids, make_request, read_all, token_ids
from tgi_router.generation import FinishReason, PrefillEvent, SamplingParameters

EVERY_KIND = pytest.mark.parametrize(
    "kind",
    [PAGED, PAGED_AHEAD, PAGED_WHOLE_PROMPTS, TGI_PAGED, TGI_PADDED],
    ids=["paged", "ahead", "whole", "tgi", "padded"],
)


@EVERY_KIND
async def test_requests_of_all_lengths_get_their_own_tokens(start: StartBench, kind: FakeShardKind) -> None:
    bench = await start(kind)
    requests = [make_request([n] * (n + 2), 3 + n % 4) for n in range(1, 13)]

    answers = await bench.generate_all(requests)

    for request, answer in zip(requests, answers, strict=True):
        assert answer == expected_ids(request.input_ids, request.stopping.max_new_tokens)
    await bench.at_rest()
    assert bench.engine.batches == {}
    assert bench.metrics.kv_blocks_used.value == 0


@EVERY_KIND
async def test_an_answer_tells_how_it_ended(start: StartBench, kind: FakeShardKind) -> None:
    bench = await start(kind)
    bench.engine.script = lambda prompt, generated: (
        EOS_ID if prompt[0] == 9 and generated == 2 else counting_script(prompt, generated)
    )
    stop = f" {expected_ids([1, 2], 2)[1]}"
    requests = [
        make_request([1, 2, 3], 3, parameters=SamplingParameters(do_sample=True, seed=2**63 + 5)),
        make_request([9, 2, 3], 9),
        make_request([1, 2], 9, stop=(stop,)),
        make_request([9, 2], 4, ignore_eos=True),
    ]

    entries = [bench.submit(request) for request in requests]
    ends = [end_of(await read_all(entry.stream)) for entry in entries]

    assert [(end.finish_reason, end.generated_tokens) for end in ends] == [
        (FinishReason.LENGTH, 3),
        (FinishReason.EOS_TOKEN, 3),
        (FinishReason.STOP_SEQUENCE, 2),
        (FinishReason.LENGTH, 4),
    ]
    assert [end.seed for end in ends] == [2**63 + 5, None, None, None]
    assert ends[1].token.special
    assert ends[2].generated_text.endswith(stop)
    assert all(entry.queued_at <= end.started_at for entry, end in zip(entries, ends, strict=True))


@EVERY_KIND
async def test_prompt_and_top_tokens_come_when_asked_for(start: StartBench, kind: FakeShardKind) -> None:
    bench = await start(kind)
    asked = bench.submit(make_request([4, 5, 6], 2, prefill_logprobs=True, top_n_tokens=3))
    plain = bench.submit(make_request([4, 5, 6], 2))

    prefill, *events = await read_all(asked.stream)

    assert isinstance(prefill, PrefillEvent)
    assert [token.id for token in prefill.tokens] == [4, 5, 6]
    assert [len(event.top_tokens) for event in events if not isinstance(event, PrefillEvent)] == [3, 3]
    others = await read_all(plain.stream)
    assert len(others) == 2
    assert [len(event.top_tokens) for event in others if not isinstance(event, PrefillEvent)] == [0, 0]


async def test_a_new_request_joins_the_running_step(start: StartBench) -> None:
    bench = await start(PAGED)
    bench.shards.hold()
    first = bench.submit(make_request([1, 2, 3], 4))
    await bench.shards.step_held()
    second = bench.submit(make_request([4, 5], 4))
    bench.shards.release()
    await asyncio.gather(read_all(first.stream), read_all(second.stream))

    # One mixed step computes the new prompt beside the running request.
    assert bench.calls("prefill") == [("prefill", [0], [0]), ("prefill", [0, 1], [1])]
    assert bench.engine.step_tokens[:2] == [3, 2 + 1]


async def test_long_prompts_are_computed_in_chunks_within_the_budget(start: StartBench) -> None:
    bench = await start(FakeShardKind(block_size=4, block_count=200), max_batch_prefill_tokens=32)
    requests = [make_request([n] * length, 3) for n, length in enumerate((100, 70, 5, 33), start=1)]

    answers = await bench.generate_all(requests)

    assert answers == [expected_ids(request.input_ids, 3) for request in requests]
    assert max(bench.engine.step_tokens) <= 32


async def test_requests_start_first_come_first_served(start: StartBench) -> None:
    bench = await start(FakeShardKind(block_size=4, block_count=13))
    # 12 blocks: the second waits for the first, the small third waits behind it.
    requests = [make_request([1] * 20, 9), make_request([2] * 20, 9), make_request([3], 2)]

    await bench.generate_all(requests)

    started = [request_id for _, _, request_ids in bench.calls("prefill") for request_id in request_ids]
    assert started == [0, 1, 2]
    assert bench.calls("prefill")[0][2] == [0]


async def test_max_batch_size_holds_for_joining_too(start: StartBench) -> None:
    bench = await start(PAGED, max_batch_size=2)
    requests = [make_request([n, n], 3) for n in range(1, 6)]

    answers = await bench.generate_all(requests)

    assert answers == [expected_ids(request.input_ids, 3) for request in requests]
    assert max(len(ids) for method, _, ids in bench.calls("decode")) == 2


async def test_a_prompt_seen_before_is_not_computed_again(start: StartBench) -> None:
    bench = await start(PAGED)
    prompt = list(range(1, 40))
    await bench.generate(make_request(prompt, 3))
    await bench.at_rest()
    del bench.engine.step_tokens[:]

    assert await bench.generate(make_request(prompt, 3)) == expected_ids(prompt, 3)

    assert bench.engine.step_tokens[0] == 39 - 32
    assert bench.metrics.prefix_cache_hit_tokens.value == 32
    assert bench.metrics.prefix_cache_query_tokens.value == 78


async def test_a_prompt_is_shared_while_its_first_owner_still_runs(start: StartBench) -> None:
    bench = await start(PAGED)
    prompt = list(range(1, 40))
    bench.shards.hold()
    first = bench.submit(make_request(prompt, 5))
    await bench.shards.step_held()
    second = bench.submit(make_request(prompt, 5))
    bench.shards.release()

    answers = await asyncio.gather(read_all(first.stream), read_all(second.stream))

    assert [token_ids(events) for events in answers] == [expected_ids(prompt, 5)] * 2
    assert bench.engine.step_tokens[:2] == [39, 1 + 7]


async def test_a_prompt_still_being_computed_is_not_shared(start: StartBench) -> None:
    bench = await start(PAGED, max_batch_prefill_tokens=32)
    prompt = list(range(1, 60))
    bench.shards.hold()
    first = bench.submit(make_request(prompt, 3))
    await bench.shards.step_held()
    second = bench.submit(make_request(prompt, 3))
    bench.shards.release()

    answers = await asyncio.gather(read_all(first.stream), read_all(second.stream))

    # The fake shard fails a request whose prefix was not computed.
    assert [token_ids(events) for events in answers] == [expected_ids(prompt, 3)] * 2


async def test_the_next_turn_of_a_chat_reuses_the_last_answer(start: StartBench) -> None:
    bench = await start(PAGED)
    prompt = list(range(1, 20))
    answer = await bench.generate(make_request(prompt, 30))
    await bench.at_rest()
    del bench.engine.step_tokens[:]
    next_prompt = [*prompt, *answer, 7, 8]

    assert await bench.generate(make_request(next_prompt, 2)) == expected_ids(next_prompt, 2)

    # 19 + 30 tokens; the last one was never computed on, so three whole pages are known.
    assert bench.engine.step_tokens[0] == len(next_prompt) - 48


@pytest.mark.parametrize("field", [{"prefill_logprobs": True}, {"adapter_id": "other"}])
async def test_requests_that_compute_something_else_neither_use_nor_fill_the_prefix_cache(
    start: StartBench, field: dict[str, bool | str]
) -> None:
    bench = await start(PAGED)
    prompt = list(range(1, 40))
    for special in (True, False, True):
        request = make_request(prompt, 2, **(field if special else {}))  # type: ignore[arg-type]
        await bench.generate(request)
        await bench.at_rest()

    prompts_computed = [tokens for tokens in bench.engine.step_tokens if tokens > 1]
    assert prompts_computed == [39, 39, 39]


async def test_a_shard_without_prefix_caching_shares_nothing(start: StartBench) -> None:
    bench = await start(FakeShardKind(use_prefix_caching=False))
    for _ in range(2):
        await bench.generate(make_request(list(range(1, 40)), 2))

    assert bench.engine.step_tokens == [39, 1, 39, 1]
    assert bench.metrics.kv_blocks_cached.value == 0


async def test_used_blocks_are_those_of_live_requests(start: StartBench) -> None:
    bench = await start(FakeShardKind(block_size=4, block_count=101))
    assert bench.metrics.kv_blocks_total.value == 100
    bench.shards.hold()
    entry = bench.submit(make_request(list(range(1, 40)), 2))
    await bench.shards.step_held()
    bench.shards.release()
    await entry.stream.take()
    assert bench.metrics.kv_blocks_used.value == 10

    await read_all(entry.stream)
    await bench.at_rest()

    assert bench.metrics.kv_blocks_used.value == 0
    assert bench.metrics.kv_blocks_cached.value == 8
