"""How requests are written: for shards that read token ids, and for those that TGI's router talks to."""

from dataclasses import replace

import pytest

from support.fake_engine import PAGED, TGI_PAGED, FakeEngine
from support.generations import make_request
from tgi_proto import generate_pb2 as pb
from tgi_router.client.messages import Placement, ShardInfo, slots_of, write_request
from tgi_router.generation import SamplingParameters

OURS = ShardInfo.from_response(FakeEngine(PAGED).info())
TGIS = ShardInfo.from_response(FakeEngine(TGI_PAGED).info())


def test_shards_that_read_token_ids_get_them_with_their_blocks_and_nothing_twice() -> None:
    placement = Placement(blocks=[7, 3], tokens=6, prefix_length=4, chunk_length=None)

    message = write_request(5, make_request([10, 11, 12, 13, 14], 2), placement, OURS)

    assert list(message.input_ids) == [10, 11, 12, 13, 14]
    assert list(message.blocks) == [7, 3]
    assert message.cache_len == 4
    assert not message.HasField("chunk_len")
    assert (message.inputs, list(message.input_chunks.chunks), list(message.slots)) == ("", [], [])


def test_other_shards_get_text_and_slots_as_tgi_sends_them() -> None:
    placement = Placement(blocks=[7, 3, 9], tokens=3, prefix_length=1, chunk_length=2)
    request = replace(make_request([10, 11, 12], 1), truncate=9, add_special_tokens=False)

    message = write_request(5, request, placement, TGIS)

    assert [chunk.text for chunk in message.input_chunks.chunks] == ["10 11 12"]
    assert message.inputs == "10 11 12"
    assert (message.truncate, message.add_special_tokens) == (9, False)
    assert (list(message.blocks), list(message.slots)) == ([7, 3, 9], [7, 3, 9])
    assert (message.cache_len, message.chunk_len) == (1, 2)
    assert list(message.input_ids) == []


def test_shards_without_blocks_get_none() -> None:
    message = write_request(5, make_request([10]), None, TGIS)

    assert (list(message.blocks), list(message.slots), message.cache_len) == ([], [], 0)


def test_every_parameter_is_written() -> None:
    parameters = SamplingParameters(
        temperature=0.5,
        top_k=7,
        top_p=0.25,
        typical_p=0.75,
        do_sample=True,
        seed=2**64 - 1,
        repetition_penalty=1.5,
        frequency_penalty=-0.5,
        watermark=True,
    )
    request = make_request(
        [1],
        9,
        stop=("a", "b"),
        ignore_eos=True,
        parameters=parameters,
        top_n_tokens=3,
        prefill_logprobs=True,
        adapter_id="x",
    )

    message = write_request(5, request, None, OURS)

    assert message.parameters == pb.NextTokenChooserParameters(
        temperature=0.5,
        top_k=7,
        top_p=0.25,
        typical_p=0.75,
        do_sample=True,
        seed=2**64 - 1,
        repetition_penalty=1.5,
        frequency_penalty=-0.5,
        watermark=True,
    )
    assert message.stopping_parameters == pb.StoppingCriteriaParameters(
        max_new_tokens=9, stop_sequences=["a", "b"], ignore_eos_token=True
    )
    assert (message.id, message.top_n_tokens, message.prefill_logprobs, message.adapter_id) == (
        5,
        3,
        True,
        "x",
    )


def test_without_an_adapter_the_field_stays_unset() -> None:
    assert not write_request(5, make_request([1]), None, OURS).HasField("adapter_id")


@pytest.mark.parametrize(
    ("blocks", "size", "tokens", "slots"),
    [
        ([8, 9, 10, 11], 2, 8, list(range(16, 24))),
        ([8, 9, 10, 11], 2, 7, list(range(16, 23))),
        ([3, 4, 5, 6], 1, 4, [3, 4, 5, 6]),
        ([5, 2], 3, 5, [15, 16, 17, 6, 7]),
    ],
)
def test_slots_number_the_tokens_of_blocks(
    blocks: list[int], size: int, tokens: int, slots: list[int]
) -> None:
    assert slots_of(blocks, size, tokens) == slots


def test_a_peer_that_knows_nothing_of_ours_runs_one_step_at_a_time_on_text() -> None:
    info = ShardInfo.from_response(pb.InfoResponse(block_size=1))

    assert (info.max_inflight_steps, info.accepts_input_ids) == (1, False)
