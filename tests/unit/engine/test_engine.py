"""What the calls of the contract do to batches, and what they must leave alone."""

from dataclasses import replace

import pytest
import torch

from support.engine_driver import Driver, alone, make_request
from tgi_shard.distributed import Collective, DistributedError, World
from tgi_shard.engine.batch import UnknownBatchError
from tgi_shard.engine.engine import Engine, NotWarmedUpError
from tgi_shard.engine.stopping import FinishReason, StoppingCriteria
from tgi_shard.engine.warmup import NotEnoughMemoryError, WarmupRequest, warmup_sequences
from tgi_shard.platform import Platform
from tgi_shard.sampling.parameters import SamplingParameters


class DisagreeingRanks(Collective):
    """Two ranks that never have the same to compute."""

    def __init__(self) -> None:
        super().__init__(World(0, 2))

    def all_same(self, number: int, device: torch.device) -> bool:
        return False


SAMPLED = SamplingParameters(do_sample=True, temperature=1.5, top_p=0.95, seed=7, repetition_penalty=1.2)


def test_a_request_joined_by_others_answers_as_it_does_alone(driver: Driver) -> None:
    requests = [
        make_request(number, text) for number, text in enumerate(("hello", "a longer prompt here", "x"))
    ]
    expected = [alone(driver.engine, request) for request in requests]
    driver.prefill(requests[0])
    driver.decode()
    driver.prefill(requests[1], batch_id=1)
    driver.prefill(requests[2], batch_id=2)
    driver.finish()
    assert [driver.tokens(number) for number in range(3)] == expected


def test_a_seed_gives_the_same_tokens_whatever_joins_or_leaves(driver: Driver) -> None:
    sampled = make_request(0, "seeded", sampling=SAMPLED, new_tokens=24)
    expected = alone(driver.engine, sampled)
    driver.prefill(sampled, make_request(1, "neighbour", new_tokens=3))
    driver.decode()
    driver.prefill(make_request(2, "late", sampling=replace(SAMPLED, seed=8)), batch_id=1)
    driver.engine.filter(driver.batch or 0, [2, 0])
    driver.finish()
    assert driver.tokens(0) == expected


def test_a_prompt_in_chunks_answers_as_it_does_whole(driver: Driver) -> None:
    prompt = "the quick brown fox jumps over the lazy dog"
    expected = alone(driver.engine, make_request(0, prompt))
    result = driver.prefill(make_request(0, prompt, chunk_length=5))
    assert result.outputs == []
    assert result.batch is not None
    assert result.batch.next_tokens == len(prompt) - 5
    assert driver.finish().tokens(0) == expected


def test_later_chunks_keep_to_the_prefill_budget(driver: Driver) -> None:
    long = make_request(0, "z" * 200, chunk_length=1)
    driver.prefill(long, make_request(1, "short", new_tokens=30, first_block=100))
    result = driver.decode()
    assert result.batch is not None
    assert result.batch.next_tokens == 64  # the budget that the warmup named: 63 of the prompt, 1 decoded
    assert alone(driver.engine, replace(long, chunk_length=None, id=5)) == driver.finish().tokens(0)


def test_a_prefix_in_given_blocks_is_not_computed_again(driver: Driver) -> None:
    prompt = "0123456789abcdef" * 2 + "tail"
    expected = alone(driver.engine, make_request(0, prompt))
    driver.prefill(make_request(0, prompt))
    driver.finish()
    shared = make_request(1, prompt, first_block=50)
    shared = replace(shared, blocks=(1, 2, *shared.blocks[2:]), cached_length=32)
    driver.prefill(shared)
    assert driver.finish().tokens(1) == expected


def test_an_ended_request_leaves_the_batch_by_itself(driver: Driver) -> None:
    result = driver.prefill(make_request(0, "one", new_tokens=1), make_request(1, "two", new_tokens=2))
    assert result.batch is not None
    assert result.batch.request_ids == [1]
    assert driver.outputs[0][-1].final is not None
    assert driver.outputs[0][-1].final.finish_reason is FinishReason.LENGTH
    driver.decode()
    assert driver.batch is None
    with pytest.raises(UnknownBatchError):
        driver.engine.decode([0])


def test_an_eos_token_ends_a_request(driver: Driver) -> None:
    third = alone(driver.engine, make_request(0, "eos"))[2]
    stopping = StoppingCriteria(
        max_new_tokens=12, stop_sequences=(), ignore_eos=False, eos_ids=frozenset({third})
    )
    driver.prefill(make_request(0, "eos", stopping=stopping))
    final = driver.finish().outputs[0][-1].final
    assert final is not None
    assert final.finish_reason is FinishReason.EOS_TOKEN
    assert final.generated_tokens <= 3


def test_decode_joins_batches_under_the_first_id(engine: Engine) -> None:
    engine.prefill(3, [make_request(0, "a")], None)
    engine.prefill(4, [make_request(1, "b")], None)
    result = engine.decode([3, 4])
    assert result.batch is not None
    assert (result.batch.id, result.batch.request_ids) == (3, [0, 1])
    assert result.concat_ns is not None
    with pytest.raises(UnknownBatchError, match="batch 4"):
        engine.decode([4])


def test_an_unknown_batch_leaves_the_others_intact(driver: Driver) -> None:
    expected = alone(driver.engine, make_request(0, "intact"))
    driver.prefill(make_request(0, "intact"))
    with pytest.raises(UnknownBatchError, match="batch 77"):
        driver.engine.decode([0, 77])
    with pytest.raises(UnknownBatchError, match="batch 77"):
        driver.engine.prefill(1, [make_request(1, "new")], 77)
    with pytest.raises(UnknownBatchError, match="batch 77"):
        driver.engine.filter(77, [0])
    assert driver.finish().tokens(0) == expected


def test_a_step_sent_ahead_of_an_end_is_empty_and_no_error(driver: Driver) -> None:
    driver.prefill(make_request(0, "short", new_tokens=1))
    assert driver.batch is None
    ahead = driver.engine.decode([0], ahead=True)
    assert (ahead.outputs, ahead.failures, ahead.batch) == ([], [], None)


def test_requests_sent_ahead_of_an_end_start_under_the_id_of_the_batch_they_were_to_join(
    driver: Driver,
) -> None:
    expected = alone(driver.engine, make_request(1, "new"))
    driver.prefill(make_request(0, "short", new_tokens=1), batch_id=7)
    driver._take(driver.engine.prefill(8, [make_request(1, "new")], 7, ahead=True))
    assert driver.batch == 7
    assert driver.finish().tokens(1) == expected


def test_a_decode_sent_ahead_joins_the_batches_that_are_left_under_the_first_id(engine: Engine) -> None:
    engine.prefill(3, [make_request(0, "a", new_tokens=1)], None)
    engine.prefill(4, [make_request(1, "b")], None)
    result = engine.decode([3, 4], ahead=True)
    assert result.batch is not None
    assert (result.batch.id, result.batch.request_ids) == (3, [1])
    assert engine.decode([4], ahead=True).batch is None


def test_a_step_sent_ahead_of_a_failure_fails_nobody_twice(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.prefill(make_request(0, "unlucky"))
    with monkeypatch.context() as patch:
        patch.setattr(driver.engine._model, "logits", lambda hidden: 1 / 0)
        driver.decode()
    ahead = driver.engine.decode([0], ahead=True)
    assert (ahead.outputs, ahead.failures, ahead.batch) == ([], [], None)


def test_ranks_that_would_compute_different_steps_give_the_batch_up(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.prefill(make_request(0, "running"))
    with monkeypatch.context() as patch:
        patch.setattr(driver.engine, "_collective", DisagreeingRanks())
        driver.prefill(make_request(1, "new"), batch_id=1)
        assert sorted(driver.failures) == [0, 1]
        assert "hold different batches" in driver.failures[0]
        assert driver.batch is None
        driver.prefill(make_request(2, "alone"), batch_id=2)
        assert "hold different batches" in driver.failures[2]
    driver.prefill(make_request(3, "later"), batch_id=3)
    assert len(driver.finish().tokens(3)) == 12


@pytest.mark.parametrize("keep", [[], [0, 9], [0, 0]])
def test_a_bad_filter_changes_nothing(driver: Driver, keep: list[int]) -> None:
    driver.prefill(make_request(0, "kept"), make_request(1, "also kept"))
    with pytest.raises(ValueError, match="request"):
        driver.engine.filter(0, keep)
    result = driver.decode()
    assert result.batch is not None
    assert result.batch.request_ids == [0, 1]


def test_a_malformed_request_fails_alone(driver: Driver) -> None:
    good = make_request(0, "good")
    expected = alone(driver.engine, good)
    bad = [
        replace(make_request(1, "few blocks"), blocks=(40,)),
        replace(make_request(2, "far block"), blocks=(10**9, 10**9 + 1)),
        replace(make_request(3, "token"), prompt_ids=(10**6,)),
        replace(make_request(4, "cached"), cached_length=6),
        replace(make_request(5, "chunk"), chunk_length=99),
        replace(make_request(6, "empty"), prompt_ids=()),
        make_request(7, "too long", new_tokens=1000),
        make_request(0, "same id", first_block=60),
    ]
    driver.prefill(good, *bad)
    assert sorted(driver.failures) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert "already running" in driver.failures[0]
    assert driver.finish().tokens(0) == expected


def test_a_step_that_fails_gives_up_the_new_requests_and_keeps_the_running_ones(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = make_request(0, "running", sampling=SAMPLED)
    expected = alone(driver.engine, running)
    driver.prefill(running)
    driver.decode()
    model = driver.engine._model
    with monkeypatch.context() as patch:
        patch.setattr(model, "logits", lambda hidden: 1 / 0)
        driver.prefill(make_request(1, "unlucky"), batch_id=1)
    assert "ZeroDivisionError" in driver.failures[1]
    assert driver.finish().tokens(0) == expected


def test_a_failed_decode_fails_its_requests_and_no_other_batch(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.engine.prefill(5, [make_request(5, "elsewhere")], None)
    driver.prefill(make_request(0, "unlucky"))
    with monkeypatch.context() as patch:
        patch.setattr(driver.engine._model, "logits", lambda hidden: 1 / 0)
        driver.decode()
    assert list(driver.failures) == [0]
    assert driver.batch is None
    assert driver.engine.decode([5]).outputs[0].request_id == 5


def test_ranks_that_lost_each_other_are_unhealthy_and_compute_nothing_more(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_touch(*_args: object, **_fields: object) -> None:
        raise DistributedError("rank 0 of 2 lost touch with the others")

    driver.prefill(make_request(0, "running"))
    driver.engine.check_device()
    with monkeypatch.context() as patch:
        patch.setattr(driver.engine._model, "forward", lose_touch)
        driver.prefill(make_request(1, "new"), batch_id=1)
    assert "lost touch" in driver.failures[1]

    for call in (driver.engine.check_device, driver.decode, lambda: driver.prefill(make_request(2, "later"))):
        with pytest.raises(DistributedError, match="lost touch"):
            call()


def test_nan_fails_only_the_request_it_belongs_to(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [make_request(0, "fine"), make_request(1, "broken")]
    expected = alone(driver.engine, requests[0])
    driver.prefill(*requests)
    logits = driver.engine._model.logits

    def broken(hidden: torch.Tensor) -> torch.Tensor:
        rows = logits(hidden)
        rows[1] = float("nan")
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(driver.engine._model, "logits", broken)
        driver.decode()
    assert "NaN" in driver.failures[1]
    assert driver.finish().tokens(0) == expected


def test_prompt_logprobs_are_those_of_the_model_also_in_chunks(driver: Driver) -> None:
    prompt = "log-probabilities of every token"
    whole, chunked = Driver(driver.engine), Driver(driver.engine)
    whole.prefill(make_request(0, prompt, prompt_logprobs=True))
    chunked.prefill(make_request(1, prompt, prompt_logprobs=True, chunk_length=7), batch_id=1)
    chunked.finish()
    first, second = whole.outputs[0][0].prompt_tokens, chunked.outputs[1][0].prompt_tokens
    assert first is not None
    assert second is not None
    assert first.logprobs[0] != first.logprobs[0]  # NaN: nothing predicts the first token
    torch.testing.assert_close(first.logprobs[1:], second.logprobs[1:], atol=1e-4, rtol=1e-4)
    assert len(first.ids) == len(prompt)
    assert all(logprob < 0 for logprob in first.logprobs[1:])


def test_prompt_logprobs_come_with_the_likeliest_tokens_in_each_place(driver: Driver) -> None:
    prompt = "log-probabilities of every token"
    whole, chunked = Driver(driver.engine), Driver(driver.engine)
    whole.prefill(make_request(0, prompt, prompt_logprobs=True, prompt_top_n_tokens=2))
    chunked.prefill(
        make_request(1, prompt, prompt_logprobs=True, prompt_top_n_tokens=2, chunk_length=7), batch_id=1
    )
    chunked.finish()
    for output in (whole.outputs[0][0], chunked.outputs[1][0]):
        assert output.prompt_tokens is not None
        first, *others = output.prompt_top_tokens
        assert first.ids == []
        assert len(others) == len(prompt) - 1
        for logprob, top in zip(output.prompt_tokens.logprobs[1:], others, strict=True):
            assert top.logprobs == sorted(top.logprobs, reverse=True)
            assert logprob <= top.logprobs[0] + 1e-5


def test_top_tokens_hold_the_greedy_choice_first(driver: Driver) -> None:
    driver.prefill(make_request(0, "top", top_n_tokens=3))
    output = driver.outputs[0][0]
    assert output.top_tokens is not None
    assert output.top_tokens.ids[0] == output.token_id
    assert output.top_tokens.logprobs == sorted(output.top_tokens.logprobs, reverse=True)
    assert output.top_tokens.logprobs[0] == pytest.approx(output.logprob, abs=1e-5)


def test_clear_forgets_one_batch_or_all(engine: Engine) -> None:
    for batch_id in range(3):
        engine.prefill(batch_id, [make_request(batch_id, "clear")], None)
    engine.clear(0)
    engine.clear(0)
    with pytest.raises(UnknownBatchError):
        engine.decode([0])
    engine.clear(None)
    with pytest.raises(UnknownBatchError):
        engine.decode([1])


def test_a_step_before_warmup_is_refused(engine: Engine) -> None:
    engine._ready = None
    with pytest.raises(NotWarmedUpError, match="Warmup"):
        engine.prefill(0, [make_request(0, "early")], None)


def test_warmup_answers_the_limits_that_were_left_open(engine: Engine) -> None:
    limits = engine.warmup(WarmupRequest([100, 28], 128, max_input_tokens=None, max_total_tokens=None))
    assert limits.max_total_tokens == 512
    assert limits.max_input_tokens == 511
    assert limits.kv_tokens % 16 == 0
    limits = engine.warmup(WarmupRequest([100], 128, max_input_tokens=50, max_total_tokens=60))
    assert (limits.max_input_tokens, limits.max_total_tokens) == (50, 60)


def test_warmup_computes_as_many_tokens_as_the_largest_prefill_will(engine: Engine) -> None:
    request = WarmupRequest([1500], 1500, max_input_tokens=None, max_total_tokens=None)
    sequences = warmup_sequences(request, block_size=16, max_length=512, tokenizer=engine._tokenizer)
    assert [len(sequence.request.prompt_ids) for sequence in sequences] == [511, 511, 478]
    blocks = [block for sequence in sequences for block in sequence.request.blocks]
    assert sorted(set(blocks)) == blocks


def test_warmup_refuses_more_positions_than_the_model_has(engine: Engine) -> None:
    with pytest.raises(ValueError, match="at most 512"):
        engine.warmup(WarmupRequest([100], 128, max_input_tokens=None, max_total_tokens=513))


def test_warmup_counts_what_the_largest_prefill_needed_as_taken(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    platform = type(engine._platform)
    budget = platform.kv_cache_budget

    def watch_budget(self: Platform, fraction: float | None, ranks: int) -> int:
        asked.append("budget")
        return budget(self, fraction, ranks)

    monkeypatch.setattr(platform, "kv_cache_budget", watch_budget)
    monkeypatch.setattr(platform, "release_cached_memory", lambda self: asked.append("release"))
    engine.warmup(WarmupRequest([64], max_prefill_tokens=64, max_input_tokens=None, max_total_tokens=None))
    assert asked == ["release", "budget", "release"]  # a cache of before is given back, then what was needed


def test_warmup_says_when_no_memory_is_left(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(engine._platform), "free_memory", lambda self: 1_000_000)
    with pytest.raises(NotEnoughMemoryError, match="memory"):
        engine.warmup(WarmupRequest([100], 128, max_input_tokens=None, max_total_tokens=None))
