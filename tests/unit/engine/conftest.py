"""A tiny real engine."""

from pathlib import Path

import pytest

from support.engine_driver import Driver
from support.tiny_llama import make_tiny_llama
from tgi_common.hub import ModelSource
from tgi_shard.engine.engine import Engine
from tgi_shard.engine.warmup import WarmupRequest
from tgi_shard.settings import ServeSettings
from tgi_shard.startup import load_engine


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engine(tiny_folder: Path) -> Engine:
    settings = ServeSettings(
        source=ModelSource(str(tiny_folder)),
        rank=0,
        world_size=1,
        master_addr="localhost",
        master_port=0,
        uds_path="/unused",
        dtype="float32",
        max_total_tokens=None,
        memory_fraction=0.001,
        rope=None,
        quantize=None,
        kernel_cache=None,
        converted_weights=tiny_folder / "converted",
        trust_remote_code=False,
    )
    engine = load_engine(settings).engine
    engine.warmup(WarmupRequest([64], max_prefill_tokens=64, max_input_tokens=None, max_total_tokens=None))
    return engine


@pytest.fixture
def driver(engine: Engine) -> Driver:
    return Driver(engine)
