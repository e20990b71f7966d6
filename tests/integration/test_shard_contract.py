"""A shard serves a caller that has never heard of this project, and its faults stay small."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from support.prompts import chat_prompt, long_text
from support.tgi_caller import TgiCaller, calling_a_shard, neutral_parameters
from tgi_proto import generate_pb2 as pb

SUM = chat_prompt("What is 12 + 7?")
COUNT = chat_prompt("Count from 3 to 12")
HELLO = chat_prompt("Hello!")
UNKNOWN_BATCH = pb.CachedBatch(id=987_654, request_ids=[1], size=1)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def _shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TgiCaller]:
    with calling_a_shard(tmp_path_factory.mktemp("shard") / "shard.log", "--dtype", "float32") as caller:
        caller.start()
        yield caller


@pytest.fixture
def shard(_shard: TgiCaller) -> TgiCaller:
    """A shard without batches, all of its blocks free."""
    assert _shard.process.poll() is None, _shard.log_path.read_text()
    _shard.stub.ClearCache(pb.ClearCacheRequest())
    _shard.next_block = 1
    _shard.texts.clear()
    _shard.finished.clear()
    return _shard


@pytest.fixture
def alone(shard: TgiCaller) -> dict[str, str]:
    """What each prompt is answered when it runs alone."""
    texts = {}
    for prompt in (SUM, COUNT, HELLO):
        shard.run(shard.prefill(7, [shard.request(7, prompt)]))
        texts[prompt] = shard.finished.pop(7).text
    return texts


def refused(call: Any, request: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    details: str = caught.value.details()
    assert details, "an error without a text"
    assert "Traceback" not in details
    return details


def test_info_says_how_batches_must_be_shaped(shard: TgiCaller) -> None:
    info = shard.stub.Info(pb.InfoRequest())
    assert not info.requires_padding
    assert info.support_chunking
    assert info.use_prefix_caching
    assert info.block_size == 16
    assert (info.dtype, info.speculate) == ("torch.float32", 0)
    assert info.device_type in {"cpu", "cuda"}
    assert not info.HasField("window_size")


def test_health_and_discovery_are_answered(shard: TgiCaller) -> None:
    assert shard.stub.Health(pb.HealthRequest()) == pb.HealthResponse()
    [url] = shard.stub.ServiceDiscovery(pb.ServiceDiscoveryRequest()).urls
    assert url.startswith("unix:///")
    assert url.endswith("-0")


def test_text_and_slots_are_enough_to_be_answered(shard: TgiCaller) -> None:
    shard.run(shard.prefill(1, [shard.request(1, SUM)]))
    assert "19" in shard.finished[1].text
    assert shard.finished[1].finish_reason == pb.FINISH_REASON_EOS_TOKEN
    assert shard.texts[1] == shard.finished[1].text + "<|im_end|>"


def test_requests_that_join_and_leave_get_what_they_get_alone(
    shard: TgiCaller, alone: dict[str, str]
) -> None:
    batch = shard.prefill(11, [shard.request(2, COUNT)])
    batch = shard.decode(batch)
    batch = shard.prefill(12, [shard.request(1, SUM), shard.request(3, HELLO)], batch)
    shard.run(batch)
    texts = {number: ended.text for number, ended in shard.finished.items()}
    assert texts == {1: alone[SUM], 2: alone[COUNT], 3: alone[HELLO]}


def test_batches_that_were_prefilled_apart_are_decoded_together(
    shard: TgiCaller, alone: dict[str, str]
) -> None:
    """The way of shards that cannot chunk: the first batch's id survives."""
    first = shard.prefill(21, [shard.request(1, COUNT)])
    second = shard.prefill(22, [shard.request(2, COUNT)])
    joined = shard.decode(first, second)
    assert joined is not None
    assert joined.id == 21
    assert sorted(joined.request_ids) == [1, 2]
    shard.run(joined)
    assert shard.finished[1].text == shard.finished[2].text == alone[COUNT]


def test_a_prompt_cut_by_the_caller_is_continued_by_the_shard(shard: TgiCaller) -> None:
    prompt = long_text(100)
    shard.run(shard.prefill(31, [shard.request(1, prompt, room=900)]))
    whole = shard.finished.pop(1).text
    batch = shard.prefill(32, [shard.request(1, prompt, room=900, chunk_len=20)])
    assert 1 not in shard.finished
    assert batch is not None
    shard.run(batch)
    assert shard.finished[1].text == whole


def test_a_prefix_in_given_blocks_is_not_computed_again(shard: TgiCaller) -> None:
    prompt = long_text(100)
    first = shard.request(1, prompt, room=900)
    shard.run(shard.prefill(41, [first]))
    second = shard.request(2, prompt, room=900, cache_len=64)
    del second.blocks[:]
    second.blocks.extend([*first.blocks[:4], *range(200, 200 + len(first.blocks) - 4)])
    del second.slots[:]
    second.slots.extend([b * 16 + place for b in second.blocks for place in range(16)][:900])
    shard.run(shard.prefill(42, [second]))
    assert shard.finished[2].text == shard.finished[1].text


def test_filtering_drops_the_others_and_changes_nothing_for_those_kept(
    shard: TgiCaller, alone: dict[str, str]
) -> None:
    batch = shard.prefill(52, [shard.request(1, SUM), shard.request(2, COUNT)])
    assert batch is not None
    kept = shard.stub.FilterBatch(pb.FilterBatchRequest(batch_id=batch.id, request_ids=[2])).batch
    assert list(kept.request_ids) == [2]
    shard.run(kept)
    assert shard.finished[2].text == alone[COUNT]
    assert 1 not in shard.finished


@pytest.mark.parametrize("name", ["Decode", "FilterBatch", "Prefill"])
def test_an_unknown_batch_is_refused_and_a_known_one_goes_on(
    shard: TgiCaller, alone: dict[str, str], name: str
) -> None:
    batch = shard.prefill(61, [shard.request(1, SUM)])
    bad = {
        "Decode": pb.DecodeRequest(batches=[UNKNOWN_BATCH]),
        "FilterBatch": pb.FilterBatchRequest(batch_id=UNKNOWN_BATCH.id, request_ids=[1]),
        "Prefill": pb.PrefillRequest(
            batch=pb.Batch(id=62, requests=[shard.request(2, COUNT)], size=1), cached_batch=UNKNOWN_BATCH
        ),
    }[name]
    assert str(UNKNOWN_BATCH.id) in refused(getattr(shard.stub, name), bad)
    shard.run(batch)
    assert shard.finished[1].text == alone[SUM]


def test_an_unknown_request_in_a_filter_does_not_lose_the_batch(
    shard: TgiCaller, alone: dict[str, str]
) -> None:
    batch = shard.prefill(71, [shard.request(1, SUM)])
    assert batch is not None
    assert "555" in refused(
        shard.stub.FilterBatch, pb.FilterBatchRequest(batch_id=batch.id, request_ids=[1, 555])
    )
    shard.run(batch)
    assert shard.finished[1].text == alone[SUM]


def changed(request: pb.Request, change: Callable[[pb.Request], object]) -> pb.Request:
    copy = pb.Request()
    copy.CopyFrom(request)
    change(copy)
    return copy


def cut_blocks(request: pb.Request) -> None:
    del request.blocks[1:]
    del request.slots[16:]


def point_beyond_the_cache(request: pb.Request) -> None:
    request.blocks[0] = 4_000_000_000
    request.slots[0] = 4_294_967_295


def drop_prompt(request: pb.Request) -> None:
    request.ClearField("input_chunks")
    request.ClearField("inputs")
    request.add_special_tokens = False


FAULTS: dict[str, Callable[[pb.Request], object]] = {
    "temperature 0": lambda request: setattr(request.parameters, "temperature", 0),
    "top_p 0": lambda request: setattr(request.parameters, "top_p", 0),
    "no prompt": drop_prompt,
    "too few blocks": cut_blocks,
    "a block that does not exist": point_beyond_the_cache,
    "a prefix as long as the prompt": lambda request: setattr(request, "cache_len", 1000),
    "an empty stop string": lambda request: request.stopping_parameters.stop_sequences.append(""),
    "no new tokens": lambda request: setattr(request.stopping_parameters, "max_new_tokens", 0),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_malformed_request_fails_alone(shard: TgiCaller, alone: dict[str, str], fault: str) -> None:
    """A caller that reads `errors` is told of the one; those beside it and those already running go on."""
    running = shard.prefill(81, [shard.request(1, COUNT)])
    bad = changed(shard.request(9, SUM), FAULTS[fault])
    batch = pb.Batch(id=82, requests=[bad, shard.request(2, SUM)], size=2)
    answer = shard.stub.Prefill(pb.PrefillRequest(batch=batch, cached_batch=running, accepts_errors=True))
    assert [error.request_id for error in answer.errors] == [9]
    assert answer.errors[0].message
    shard.run(shard._keep(answer))
    assert shard.finished[2].text == alone[SUM]
    assert shard.finished[1].text == alone[COUNT]


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_malformed_request_fails_the_call_of_a_caller_that_knows_no_errors(
    shard: TgiCaller, alone: dict[str, str], fault: str
) -> None:
    batch = pb.Batch(id=91, requests=[changed(shard.request(9, SUM), FAULTS[fault])], size=1)
    refused(shard.stub.Prefill, pb.PrefillRequest(batch=batch))
    shard.run(shard.prefill(92, [shard.request(1, SUM)]))
    assert shard.finished[1].text == alone[SUM]


def test_decoding_no_batch_is_refused(shard: TgiCaller, alone: dict[str, str]) -> None:
    refused(shard.stub.Decode, pb.DecodeRequest())
    shard.run(shard.prefill(96, [shard.request(1, SUM)]))
    assert shard.finished[1].text == alone[SUM]


def test_the_liveness_probe_of_tgi_is_answered(shard: TgiCaller, alone: dict[str, str]) -> None:
    """One token in the reserved block 0, beside whatever runs."""
    running = shard.prefill(101, [shard.request(1, SUM)])
    probe = pb.Request(
        id=2**64 - 1,
        input_chunks=pb.Input(chunks=[pb.InputChunk(text="liveness")]),
        inputs="liveness",
        truncate=1,
        parameters=neutral_parameters(),
        stopping_parameters=pb.StoppingCriteriaParameters(max_new_tokens=1),
        blocks=[0],
        slots=[0],
    )
    batch = pb.Batch(id=2**64 - 1, requests=[probe], size=1, max_tokens=2, max_blocks=1)
    answer = shard.stub.Prefill(pb.PrefillRequest(batch=batch))
    assert len(answer.generations) == 1
    assert not answer.HasField("batch")
    shard.run(running)
    assert shard.finished[1].text == alone[SUM]


def test_a_seed_gives_the_same_text_whatever_joins(shard: TgiCaller) -> None:
    drawn = neutral_parameters()
    drawn.do_sample, drawn.seed, drawn.temperature = True, 17, 1.5
    shard.run(
        shard.prefill(
            111, [changed(shard.request(1, "Hello"), lambda request: request.parameters.CopyFrom(drawn))]
        )
    )
    alone = shard.finished.pop(1)
    shard.texts.clear()
    batch = shard.prefill(
        112, [changed(shard.request(1, "Hello"), lambda request: request.parameters.CopyFrom(drawn))]
    )
    for number in range(2, 6):
        batch = shard.prefill(112 + number, [shard.request(number, COUNT)], batch)
    shard.run(batch)
    assert shard.finished[1].text == alone.text
    assert shard.finished[1].seed == 17


def test_prompt_logprobs_and_top_tokens_come_with_the_first_token(shard: TgiCaller) -> None:
    request = shard.request(1, COUNT, prefill_logprobs=True, top_n_tokens=2)
    answer = shard.stub.Prefill(pb.PrefillRequest(batch=pb.Batch(id=121, requests=[request], size=1)))
    [generation] = answer.generations
    prefill = generation.prefill_tokens
    assert len(prefill.ids) == len(prefill.texts) == len(prefill.logprobs) > 10
    assert prefill.logprobs[0] != prefill.logprobs[0], "the first token has no log-probability: NaN"
    [top] = generation.top_tokens
    assert top.ids[0] == generation.tokens.ids[0]
    assert len(top.ids) >= 2


def test_the_service_can_be_listed_by_reflection(shard: TgiCaller) -> None:
    [url] = shard.stub.ServiceDiscovery(pb.ServiceDiscoveryRequest()).urls
    with grpc.insecure_channel(url) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        [answer] = stub.ServerReflectionInfo(iter([request]))
    names = {service.name for service in answer.list_services_response.service}
    assert "generate.v3.TextGenerationService" in names
