"""The engine with the CPU kernels: a text, with its logprobs, does not depend on what runs beside it."""

from pathlib import Path

import pytest
import torch

from support.engine_driver import Driver, make_request
from support.tiny_llama import make_tiny_llama
from tgi_common.hub import ModelSource
from tgi_shard.engine.engine import Engine
from tgi_shard.engine.request import EngineRequest
from tgi_shard.engine.warmup import WarmupRequest
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.settings import ServeSettings
from tgi_shard.startup import load_engine
from unit.models.reference import random_model

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLED = SamplingParameters(do_sample=True, temperature=1.2, top_p=0.95, seed=7)
REQUESTS = [
    make_request(0, "a prompt that fills more than one block of the cache"),
    make_request(1, "x"),
    make_request(2, "drawn at random, but always alike", sampling=SAMPLED, new_tokens=20),
    make_request(3, "long " * 12, chunk_length=9),
    make_request(4, "exactly thirty-two characters!!!"),
]


@pytest.fixture(scope="module")
def engine(kernel_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = make_tiny_llama(tmp_path_factory.mktemp("wide-heads"))
    sizes = {"vocab_size": 258, "hidden_size": 64, "head_dim": 32, "max_position_embeddings": 512}
    random_model("llama", torch.bfloat16, **sizes).save_pretrained(folder)
    settings = ServeSettings(
        source=ModelSource(str(folder)),
        rank=0,
        world_size=1,
        master_addr="localhost",
        master_port=0,
        uds_path="/unused",
        dtype="bfloat16",
        max_total_tokens=None,
        memory_fraction=0.001,
        rope=None,
        quantize=None,
        kernel_cache=kernel_cache,
        converted_weights=folder / "converted",
        trust_remote_code=False,
    )
    loaded = load_engine(settings)
    assert loaded.info.attention == "cpu"
    loaded.engine.warmup(
        WarmupRequest([64], max_prefill_tokens=64, max_input_tokens=None, max_total_tokens=None)
    )
    return loaded.engine


def answer(driver: Driver, request: EngineRequest) -> list[tuple[int, float]]:
    return [(output.token_id, output.logprob) for output in driver.outputs[request.id]]


def test_texts_and_logprobs_do_not_depend_on_the_batch(engine: Engine) -> None:
    expected = []
    for request in REQUESTS:
        alone = Driver(engine)
        alone.prefill(request, batch_id=99)
        expected.append(answer(alone.finish(), request))
    together = Driver(engine)
    together.prefill(REQUESTS[0], REQUESTS[1])
    together.decode()
    together.prefill(REQUESTS[2], REQUESTS[3], batch_id=1)
    together.decode()
    together.prefill(REQUESTS[4], batch_id=2)
    together.finish()
    assert together.failures == {}
    assert [answer(together, request) for request in REQUESTS] == expected
