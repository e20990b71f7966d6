"""The gRPC face of a shard, spoken to as TGI's router and as this project's router speak."""

import asyncio
import gc
import os
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from support.tiny_llama import make_tiny_llama
from tgi_common.hub import ModelSource
from tgi_common.sockets import MAX_SOCKET_PATH
from tgi_proto import generate_pb2 as pb
from tgi_proto import generate_pb2_grpc
from tgi_shard import startup
from tgi_shard.distributed import DistributedError
from tgi_shard.engine.worker import EngineThread
from tgi_shard.service import order
from tgi_shard.service.handlers import TextGenerationService
from tgi_shard.service.server import LostRanksError, SocketPathError, serve, socket_url
from tgi_shard.settings import ServeSettings


class WorkDoneError(Exception):
    """Ends a start early."""


class FailingEngine:
    """Fails once it may."""

    lost = None

    def __init__(self) -> None:
        self.entered, self.may_fail = threading.Event(), threading.Event()

    def clear(self, batch_id: int | None) -> None:
        self.entered.set()
        self.may_fail.wait(10)
        raise ValueError("no such batch")


Stub = generate_pb2_grpc.TextGenerationServiceStub


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


def shard_settings(tiny_folder: Path, tmp_path: Path) -> ServeSettings:
    return ServeSettings(
        source=ModelSource(str(tiny_folder)),
        rank=0,
        world_size=1,
        master_addr="localhost",
        master_port=0,
        uds_path=str(tmp_path / "shard"),
        dtype="float32",
        max_total_tokens=None,
        memory_fraction=0.001,
        rope=None,
        quantize=None,
        kernel_cache=None,
        converted_weights=tmp_path / "converted",
        trust_remote_code=False,
    )


@pytest.fixture
async def url(tiny_folder: Path, tmp_path: Path) -> AsyncIterator[str]:
    settings = shard_settings(tiny_folder, tmp_path)
    service = startup.build_service(settings)
    url = socket_url(settings.uds_path, 0)
    server = asyncio.create_task(serve(service, url))
    async with grpc.aio.insecure_channel(url) as channel:
        await asyncio.wait_for(channel.channel_ready(), 10)
    yield url
    os.kill(os.getpid(), 15)  # the handler that `serve` has set takes it
    await asyncio.wait_for(server, 10)
    service.close()
    assert not await asyncio.to_thread(Path(url.removeprefix("unix://")).exists)


@pytest.fixture
async def stub(url: str) -> AsyncIterator[Stub]:
    async with grpc.aio.insecure_channel(url) as channel:
        yield Stub(channel)


def text_request(request_id: int, text: str, first_block: int, **parameters: object) -> pb.Request:
    """A request as TGI's router writes it: text, no token ids, every parameter resolved."""
    return pb.Request(
        id=request_id,
        inputs=text,
        input_chunks=pb.Input(chunks=[pb.InputChunk(text=text)]),
        truncate=100,
        add_special_tokens=True,
        parameters=pb.NextTokenChooserParameters(
            **{"temperature": 1.0, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0, **parameters}
        ),
        stopping_parameters=pb.StoppingCriteriaParameters(max_new_tokens=4, ignore_eos_token=True),
        blocks=range(first_block, first_block + 4),
    )


def batch(batch_id: int, *requests: pb.Request) -> pb.Batch:
    return pb.Batch(id=batch_id, requests=requests, size=len(requests), max_tokens=64, max_blocks=4)


async def warm_up(stub: Stub) -> pb.WarmupResponse:
    """Warm up as TGI's router does: an image chunk, watermark, and one id for all."""
    request = text_request(0, "_test " * 60, 0, temperature=0.9, watermark=True)
    request.input_chunks.chunks.append(
        pb.InputChunk(image=pb.Image(data=b"\xff", mimetype="image/jpeg;base64"))
    )
    del request.blocks[:]
    request.truncate = 50
    return await stub.Warmup(pb.WarmupRequest(batch=batch(0, request, request), max_prefill_tokens=100))


def test_the_model_is_loaded_on_the_thread_that_will_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def load(settings: ServeSettings) -> startup.LoadedModel:
        names.append(threading.current_thread().name)
        raise WorkDoneError

    monkeypatch.setattr(startup, "load_engine", load)
    with pytest.raises(WorkDoneError):
        startup.build_service(None)  # type: ignore[arg-type]
    assert names == ["engine"]


async def test_a_rank_that_lost_the_others_ends(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = startup.build_service(shard_settings(tiny_folder, tmp_path))
    url = socket_url(str(tmp_path / "shard"), 0)
    server = asyncio.create_task(serve(service, url))
    async with grpc.aio.insecure_channel(url) as channel:
        stub = Stub(channel)
        await asyncio.wait_for(channel.channel_ready(), 10)
        await warm_up(stub)

        def lose_touch(*_arguments: object) -> None:
            raise DistributedError("rank 0 of 2 lost touch with the others")

        monkeypatch.setattr(service._engine._model, "forward", lose_touch)
        failed = await stub.Prefill(
            pb.PrefillRequest(batch=batch(1, text_request(1, "on", 1)), accepts_errors=True)
        )
    assert "lost touch" in failed.errors[0].message
    with pytest.raises(LostRanksError, match="lost touch"):
        await asyncio.wait_for(server, 10)
    service.close()


async def test_info_says_how_batches_must_be_shaped(stub: Stub) -> None:
    info = await stub.Info(pb.InfoRequest())
    assert (info.requires_padding, info.support_chunking, info.use_prefix_caching) == (False, True, True)
    assert (info.dtype, info.device_type) == ("torch.float32", "cpu")
    assert info.block_size == 16
    assert info.accepts_input_ids
    assert info.max_inflight_steps == 2


async def test_discovery_names_the_socket_which_only_its_user_may_open(stub: Stub, url: str) -> None:
    answer = await stub.ServiceDiscovery(pb.ServiceDiscoveryRequest())
    assert list(answer.urls) == [url]
    mode = (await asyncio.to_thread(Path(url.removeprefix("unix://")).stat)).st_mode
    assert stat.S_IMODE(mode) & 0o077 == 0


async def test_health_computes_on_the_device(stub: Stub) -> None:
    assert await stub.Health(pb.HealthRequest()) == pb.HealthResponse()


async def test_reflection_lists_the_service(url: str) -> None:
    async with grpc.aio.insecure_channel(url) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        names = [service.name async for answer in call for service in answer.list_services_response.service]
    assert "generate.v3.TextGenerationService" in names


async def test_a_request_as_text_answers_as_the_same_request_in_ids(stub: Stub) -> None:
    await warm_up(stub)
    as_text = text_request(1, "hello", 1)
    as_ids = text_request(2, "", 10)
    as_ids.input_ids.extend((71, 68, 75, 75, 78))  # `hello` in the tiny tokenizer
    first = await stub.Prefill(pb.PrefillRequest(batch=batch(1, as_text)))
    second = await stub.Prefill(pb.PrefillRequest(batch=batch(2, as_ids)))
    assert first.generations[0].tokens.ids == second.generations[0].tokens.ids
    assert first.batch.request_ids == [1]
    assert first.total_ns >= first.forward_ns > 0


async def test_prefill_then_decode_ends_with_the_generated_text(stub: Stub) -> None:
    await warm_up(stub)
    answer = await stub.Prefill(
        pb.PrefillRequest(batch=batch(1, text_request(1, "ab", 1, do_sample=True, seed=3)))
    )
    texts = list(answer.generations[0].tokens.texts)
    while answer.HasField("batch"):
        answer = await stub.Decode(pb.DecodeRequest(batches=[answer.batch]))
        texts += answer.generations[0].tokens.texts
    ended = answer.generations[0].generated_text
    assert ended.generated_tokens == 4
    assert ended.finish_reason == pb.FINISH_REASON_LENGTH
    assert ended.seed == 3
    assert ended.text == "".join(texts)


async def test_a_step_sent_ahead_waits_for_the_one_it_follows_though_it_arrived_first(stub: Stub) -> None:
    await warm_up(stub)
    requests = batch(1, text_request(1, "one", 1))
    ahead = stub.Decode(pb.DecodeRequest(batches=[pb.CachedBatch(id=1)], step=2, ahead=True))
    await stub.Health(pb.HealthRequest())  # by now it has arrived
    first = await stub.Prefill(pb.PrefillRequest(batch=requests, step=1))
    second = await ahead
    assert [len(answer.generations) for answer in (first, second)] == [1, 1]
    assert second.batch.request_ids == [1]


async def test_a_step_sent_ahead_of_one_that_never_comes_is_refused_in_the_end(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warm_up(stub)
    monkeypatch.setattr(order, "ARRIVAL_TIMEOUT", 0.01)
    with pytest.raises(grpc.aio.AioRpcError, match="ahead of step 4, which has not come; the last was 0"):
        await stub.Decode(pb.DecodeRequest(batches=[pb.CachedBatch(id=1)], step=5, ahead=True))


async def test_a_step_sent_ahead_of_the_last_ones_end_is_answered_with_nothing(stub: Stub) -> None:
    await warm_up(stub)
    short = text_request(1, "one", 1)
    short.stopping_parameters.max_new_tokens = 1
    prefill = stub.Prefill(pb.PrefillRequest(batch=batch(1, short), step=1))
    ahead = stub.Decode(pb.DecodeRequest(batches=[pb.CachedBatch(id=1)], step=2, ahead=True))
    assert (await prefill).generations[0].generated_text.generated_tokens == 1
    answer = await ahead
    assert not answer.generations
    assert not answer.HasField("batch")
    with pytest.raises(grpc.aio.AioRpcError, match="batch 1 is not in the cache"):
        await stub.Decode(pb.DecodeRequest(batches=[pb.CachedBatch(id=1)], step=3))


async def test_new_requests_join_a_cached_batch_in_one_step(stub: Stub) -> None:
    await warm_up(stub)
    first = await stub.Prefill(pb.PrefillRequest(batch=batch(1, text_request(1, "one", 1))))
    both = await stub.Prefill(
        pb.PrefillRequest(batch=batch(2, text_request(2, "two", 10)), cached_batch=first.batch)
    )
    assert {generation.request_id for generation in both.generations} == {1, 2}
    assert both.batch.id == 1
    filtered = await stub.FilterBatch(pb.FilterBatchRequest(batch_id=1, request_ids=[2]))
    assert filtered.batch.request_ids == [2]
    await stub.ClearCache(pb.ClearCacheRequest())
    with pytest.raises(grpc.aio.AioRpcError, match="batch 1 is not in the cache"):
        await stub.Decode(pb.DecodeRequest(batches=[both.batch]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"presence_penalty": float("inf")}, "presence_penalty"),
        ({"token_bias": {10**6: 1.0}}, "biased token id 1000000"),
        ({"grammar": "a(b", "grammar_type": pb.GRAMMAR_TYPE_REGEX}, "unclosed group"),
        ({"grammar": "{", "grammar_type": pb.GRAMMAR_TYPE_JSON}, "JSON schema"),
        ({"grammar": "a", "grammar_type": pb.GRAMMAR_TYPE_NONE}, "it must be JSON, REGEX or LARK"),
    ],
)
async def test_a_bad_request_is_named_and_its_neighbour_answered(
    stub: Stub, change: dict[str, object], reason: str
) -> None:
    await warm_up(stub)
    requests = batch(1, text_request(1, "good", 1), text_request(2, "bad", 10, **change))
    answer = await stub.Prefill(pb.PrefillRequest(batch=requests, accepts_errors=True))
    assert [generation.request_id for generation in answer.generations] == [1]
    assert [error.request_id for error in answer.errors] == [2]
    assert reason in answer.errors[0].message


@pytest.mark.parametrize(
    ("kind", "grammar", "text"),
    [
        (pb.GRAMMAR_TYPE_REGEX, "no!", "no!"),
        (pb.GRAMMAR_TYPE_JSON, '{"const": 7}', "7"),
        (pb.GRAMMAR_TYPE_LARK, 'start: "a" "b"', "ab"),
    ],
)
async def test_a_grammar_is_followed_to_its_end_even_where_the_end_of_text_is_ignored(
    stub: Stub, kind: pb.GrammarType, grammar: str, text: str
) -> None:
    await warm_up(stub)
    request = text_request(1, "say it", 1, grammar=grammar, grammar_type=kind)
    request.stopping_parameters.max_new_tokens = 40
    answer = await stub.Prefill(pb.PrefillRequest(batch=batch(1, request)))
    while answer.HasField("batch"):
        answer = await stub.Decode(pb.DecodeRequest(batches=[answer.batch]))
    final = answer.generations[0].generated_text
    assert final.finish_reason == pb.FINISH_REASON_EOS_TOKEN
    assert final.text == text


async def test_a_caller_that_reads_no_errors_gets_a_failed_call(stub: Stub) -> None:
    await warm_up(stub)
    requests = batch(1, text_request(1, "good", 1), text_request(2, "bad", 10, temperature=0.0))
    with pytest.raises(grpc.aio.AioRpcError, match="temperature") as caught:
        await stub.Prefill(pb.PrefillRequest(batch=requests))
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert (await stub.Health(pb.HealthRequest())) == pb.HealthResponse()
    again = await stub.Prefill(pb.PrefillRequest(batch=batch(1, text_request(1, "good", 1))))
    assert again.batch.request_ids == [1]


async def test_a_call_that_its_caller_gives_up_is_carried_out_all_the_same(stub: Stub) -> None:
    await warm_up(stub)
    running = await stub.Prefill(pb.PrefillRequest(batch=batch(1, text_request(1, "on", 1))))
    given_up = [stub.Decode(pb.DecodeRequest(batches=[running.batch])) for _ in range(2)]
    await stub.Health(pb.HealthRequest())  # by now they have arrived
    for call in given_up:
        call.cancel()
    last = await stub.Decode(pb.DecodeRequest(batches=[running.batch]))
    assert last.generations[0].generated_text.generated_tokens == 4


async def test_a_failure_that_nobody_waits_for_any_more_leaves_no_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, thread = FailingEngine(), EngineThread()
    service = TextGenerationService(engine, thread, None, None, [])  # type: ignore[arg-type]
    call = asyncio.create_task(service.ClearCache(pb.ClearCacheRequest(), None))  # type: ignore[arg-type]
    await asyncio.to_thread(engine.entered.wait, 10)
    call.cancel()
    await asyncio.wait([call])
    engine.may_fail.set()
    await asyncio.wrap_future(thread.submit(gc.collect))  # runs after the failure, whose future is let go
    await asyncio.sleep(0)
    gc.collect()
    thread.stop(10)
    assert not caplog.records


@pytest.mark.parametrize("method", ["Prefill", "Health"])
async def test_bytes_that_are_no_message_are_refused_without_a_traceback(
    url: str, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    async with grpc.aio.insecure_channel(url) as channel:
        call = channel.unary_unary(f"/generate.v3.TextGenerationService/{method}")
        with pytest.raises(grpc.aio.AioRpcError, match=f"{method}Request") as caught:
            await call(b"\xff\xff garbage")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert not caplog.records


async def test_a_warmup_with_nothing_to_compute_is_told_what_it_lacks(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="max_prefill_tokens of at least 1") as caught:
        await stub.Warmup(pb.WarmupRequest(max_prefill_tokens=100))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (await warm_up(stub)).max_supported_total_tokens > 0


async def test_a_warmup_that_leaves_no_room_for_an_answer_is_refused(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="max_total_tokens is 0; it must be at least 2"):
        await stub.Warmup(
            pb.WarmupRequest(
                batch=batch(0, text_request(1, "a", 1)), max_prefill_tokens=100, max_total_tokens=0
            )
        )


async def test_a_request_for_an_adapter_is_refused_rather_than_answered_without_it(stub: Stub) -> None:
    await warm_up(stub)
    request = text_request(1, "a", 1)
    request.adapter_id = "mine"
    answer = await stub.Prefill(pb.PrefillRequest(batch=batch(1, request), accepts_errors=True))
    assert "adapter" in answer.errors[0].message


async def test_a_request_without_text_or_ids_is_refused(stub: Stub) -> None:
    await warm_up(stub)
    answer = await stub.Prefill(
        pb.PrefillRequest(batch=batch(1, text_request(1, "", 1)), accepts_errors=True)
    )
    assert "no tokens" in answer.errors[0].message
    assert not answer.HasField("batch")


async def test_a_truncated_text_keeps_its_last_tokens(stub: Stub) -> None:
    await warm_up(stub)
    cut, short = text_request(1, "xyzhello", 1), text_request(2, "hello", 10)
    cut.truncate = 5
    first = await stub.Prefill(pb.PrefillRequest(batch=batch(1, cut)))
    second = await stub.Prefill(pb.PrefillRequest(batch=batch(2, short)))
    assert first.generations[0].tokens.ids == second.generations[0].tokens.ids


async def test_a_socket_path_that_is_too_long_is_refused() -> None:
    with pytest.raises(SocketPathError, match=str(MAX_SOCKET_PATH)):
        await serve(None, "unix:///" + "x" * 200)  # type: ignore[arg-type]
