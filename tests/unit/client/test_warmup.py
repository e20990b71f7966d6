"""Start-up: the warmup batch, and the limits that follow from the answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from support.fake_engine import PAGED, TGI_PADDED, TGI_PAGED, FakeEngine, FakeShardKind
from support.fake_shard import FakeShards
from tgi_proto import generate_pb2 as pb
from tgi_router.client.group import ShardGroup
from tgi_router.client.messages import ShardInfo
from tgi_router.client.warmup import (
    CPU_BATCH_PREFILL_TOKENS,
    DEFAULT_BATCH_PREFILL_TOKENS,
    LimitsError,
    ServerLimits,
    WantedLimits,
    settle_limits,
    warm_up,
    warmup_request,
)


def info_of(kind: FakeShardKind) -> ShardInfo:
    return ShardInfo.from_response(FakeEngine(kind).info())


def settle(
    kind: FakeShardKind,
    *,
    supported: int | None,
    max_input: int,
    max_total: int,
    **wanted: int | None,
) -> ServerLimits:
    wishes = {"max_batch_prefill_tokens": 64, **wanted}
    answer = pb.WarmupResponse(
        max_supported_total_tokens=supported, max_input_tokens=max_input, max_total_tokens=max_total
    )
    return settle_limits(WantedLimits(**wishes), info_of(kind), answer)  # type: ignore[arg-type]


class TestTheWarmupBatch:
    def test_without_limits_it_is_one_prompt_as_long_as_a_step_allows(self) -> None:
        request = warmup_request(WantedLimits(max_batch_prefill_tokens=100), info_of(TGI_PAGED))

        [prompt] = request.batch.requests
        assert (prompt.truncate, prompt.inputs) == (100, "_test " * 100)
        assert [chunk.text for chunk in prompt.input_chunks.chunks] == [prompt.inputs]
        assert prompt.stopping_parameters.max_new_tokens == 1
        assert prompt.stopping_parameters.ignore_eos_token
        assert (request.batch.id, request.batch.size, request.batch.max_tokens) == (0, 1, 0)
        assert request.max_prefill_tokens == 100
        assert not request.HasField("max_input_tokens")
        assert not request.HasField("max_total_tokens")

    def test_prompts_of_the_longest_length_fill_the_step(self) -> None:
        wanted = WantedLimits(100, max_input_tokens=40, max_total_tokens=60)

        request = warmup_request(wanted, info_of(TGI_PAGED))

        prompts = request.batch.requests
        assert [prompt.truncate for prompt in prompts] == [40, 40, 20]
        assert [prompt.stopping_parameters.max_new_tokens for prompt in prompts] == [20, 20, 40]
        assert (request.batch.size, request.batch.max_tokens) == (3, 40)
        assert (request.max_input_tokens, request.max_total_tokens) == (40, 60)

    def test_it_has_no_more_prompts_than_a_batch_may_have(self) -> None:
        wanted = WantedLimits(100, max_input_tokens=10, max_total_tokens=60, max_batch_size=3)

        assert len(warmup_request(wanted, info_of(TGI_PAGED)).batch.requests) == 3

    def test_every_sampling_step_is_on(self) -> None:
        [prompt] = warmup_request(WantedLimits(8), info_of(TGI_PAGED)).batch.requests

        parameters = prompt.parameters
        assert (parameters.top_k, parameters.watermark, parameters.do_sample) == (10, True, False)
        assert parameters.temperature == pytest.approx(0.9)
        assert parameters.repetition_penalty == pytest.approx(1.2)
        assert (prompt.top_n_tokens, prompt.prefill_logprobs) == (20, True)

    def test_shards_that_read_token_ids_get_those_and_no_watermark(self) -> None:
        wanted = WantedLimits(100, max_input_tokens=60, max_total_tokens=80)

        prompts = warmup_request(wanted, info_of(PAGED)).batch.requests

        assert [len(prompt.input_ids) for prompt in prompts] == [60, 40]
        assert [prompt.inputs for prompt in prompts] == ["", ""]
        assert [prompt.id for prompt in prompts] == [0, 1]
        assert not prompts[0].parameters.watermark


class TestTheLimits:
    def test_what_the_shards_support_is_the_budget_whatever_the_user_wished(self) -> None:
        limits = settle(PAGED, supported=400, max_input=99, max_total=100, max_batch_total_tokens=9000)

        assert (limits.max_batch_total_tokens, limits.block_count) == (400, 100)
        assert (limits.max_input_tokens, limits.max_total_tokens) == (99, 100)

    def test_shards_that_cannot_know_get_the_users_budget_or_tgis_least(self) -> None:
        given = settle(TGI_PADDED, supported=None, max_input=9, max_total=64, max_batch_total_tokens=900)
        default = settle(TGI_PADDED, supported=None, max_input=9, max_total=64)
        long = settle(TGI_PADDED, supported=None, max_input=9, max_total=20000)

        assert given.max_batch_total_tokens == 900
        assert default.max_batch_total_tokens == 16000
        assert long.max_batch_total_tokens == 20000
        assert default.block_count == 0

    def test_an_open_limit_is_lowered_to_what_has_room(self) -> None:
        # 100 blocks of 4, one of them reserved; the last token of an answer needs no room.
        limits = settle(PAGED, supported=400, max_input=399, max_total=400)

        assert (limits.max_input_tokens, limits.max_total_tokens) == (396, 397)

    def test_a_set_limit_that_has_no_room_is_refused(self) -> None:
        settle(PAGED, supported=400, max_input=300, max_total=397, max_total_tokens=397)
        with pytest.raises(LimitsError, match=r"`max_total_tokens` \(398\) must not exceed 397"):
            settle(PAGED, supported=400, max_input=300, max_total=398, max_total_tokens=398)

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ({"max_input_tokens": 50}, "`max_input_tokens` is 50 but the shards can only serve 40"),
            ({"max_total_tokens": 90}, "`max_total_tokens` is 90 but the shards can only serve 80"),
        ],
    )
    def test_shards_must_agree_with_the_user(self, wanted: dict[str, int], message: str) -> None:
        with pytest.raises(LimitsError, match=message):
            settle(PAGED, supported=400, max_input=40, max_total=80, **wanted)

    def test_a_prompt_must_be_shorter_than_prompt_and_answer(self) -> None:
        with pytest.raises(LimitsError, match="must be smaller than `max_total_tokens`"):
            settle(PAGED, supported=400, max_input=80, max_total=80)

    def test_without_chunking_a_prompt_must_fit_a_step(self) -> None:
        settle(PAGED, supported=400, max_input=70, max_total=80)
        with pytest.raises(LimitsError, match="must be at least `max_input_tokens`"):
            settle(TGI_PADDED, supported=None, max_input=70, max_total=80)

    def test_a_default_step_gives_way_to_a_small_budget(self) -> None:
        limits = settle_limits(
            WantedLimits(),
            info_of(PAGED),
            pb.WarmupResponse(max_supported_total_tokens=400, max_input_tokens=99, max_total_tokens=100),
        )
        assert limits.max_batch_prefill_tokens == 400

    @pytest.mark.parametrize(
        ("device", "tokens"), [("cpu", CPU_BATCH_PREFILL_TOKENS), ("cuda", DEFAULT_BATCH_PREFILL_TOKENS)]
    )
    def test_a_default_step_is_short_where_long_ones_are_no_faster(self, device: str, tokens: int) -> None:
        info = replace(info_of(PAGED), device_type=device)
        assert warmup_request(WantedLimits(), info).max_prefill_tokens == tokens

    def test_shards_that_compute_whole_prompts_have_room_for_long_ones(self) -> None:
        info = replace(info_of(TGI_PADDED), device_type="cpu")
        assert warmup_request(WantedLimits(), info).max_prefill_tokens == DEFAULT_BATCH_PREFILL_TOKENS

    def test_a_step_must_fit_the_budget(self) -> None:
        with pytest.raises(LimitsError, match="must not exceed `max_batch_total_tokens`"):
            settle(PAGED, supported=400, max_input=40, max_total=80, max_batch_prefill_tokens=401)


@pytest.mark.parametrize("kind", [PAGED, TGI_PAGED, TGI_PADDED], ids=["paged", "tgi", "padded"])
async def test_shards_are_cleared_and_warmed_up(tmp_path: Path, kind: FakeShardKind) -> None:
    async with FakeShards(tmp_path / "shard", kind) as served:
        group = await ShardGroup.connect(served.master)

        limits = await warm_up(group, WantedLimits(64))

        assert [method for method, _, _ in served.services[0].engine.calls] == ["clear_cache", "warmup"]
        assert limits.shard == info_of(kind)
        assert limits.max_input_tokens < limits.max_total_tokens <= limits.max_batch_total_tokens
        await group.close()


async def test_shards_with_blocks_of_no_size_are_refused(tmp_path: Path) -> None:
    async with FakeShards(tmp_path / "shard", FakeShardKind(block_size=0)) as served:
        group = await ShardGroup.connect(served.master)
        with pytest.raises(LimitsError, match="block size of 0"):
            await warm_up(group, WantedLimits(64))
        await group.close()
