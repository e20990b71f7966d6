"""From settings to an engine that waits for its warmup: files, ranks, weights, tokenizer."""

from dataclasses import dataclass
from pathlib import Path

import structlog

from tgi_common.grammar import GrammarError
from tgi_common.hub import fetch_config_files
from tgi_common.model_files import read_config, read_json_object
from tgi_shard.backend import select_backend
from tgi_shard.distributed import World, connect
from tgi_shard.engine.engine import Engine
from tgi_shard.engine.memory import CacheMaker
from tgi_shard.engine.outputs import OutputWriter
from tgi_shard.engine.worker import EngineThread
from tgi_shard.grammar.compile import GrammarCompiler, load_vocabulary
from tgi_shard.models.config import DTYPES, ModelConfig
from tgi_shard.models.config_reader import ConfigReader, JsonObject
from tgi_shard.models.load import load_model
from tgi_shard.models.registry import read_model_config
from tgi_shard.platform import select_platform
from tgi_shard.quantization.schemes import choose_scheme
from tgi_shard.service.handlers import ShardInfo, TextGenerationService
from tgi_shard.service.messages import RequestReader
from tgi_shard.service.server import socket_url
from tgi_shard.settings import RopeOverride, ServeSettings
from tgi_shard.text.tokenizer import ShardTokenizer, load_tokenizer
from tgi_shard.weights.download import prepare_weights
from tgi_shard.weights.safetensors_files import open_weights

log = structlog.get_logger(__name__)


class LengthError(ValueError):
    """Longer sequences are asked for than the model can place."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An engine that waits for its warmup, with what its service needs to know.

    Attributes:
        eos_ids: all ids that end a generation.
        grammars: None where the model's tokenizer allows for none.
    """

    engine: Engine
    tokenizer: ShardTokenizer
    info: ShardInfo
    eos_ids: frozenset[int]
    grammars: GrammarCompiler | None


def build_service(settings: ServeSettings) -> TextGenerationService:
    """Load the model and put the engine behind its service.

    Raises:
        ModelFilesError, ConfigError, TokenizerError, DistributedError, DeviceError: each says in one line
            what is wrong.
    """
    # Loaded on the thread that will run it. OpenMP keeps a team of threads for each one that ever computed:
    # with more threads than processors its barriers sleep, not spin, and a step takes half as long again.
    thread = EngineThread()
    loaded = thread.submit(lambda: load_engine(settings)).result()
    urls = [socket_url(settings.uds_path, rank) for rank in range(settings.world_size)]
    reader = RequestReader(loaded.tokenizer, loaded.eos_ids, loaded.grammars)
    return TextGenerationService(loaded.engine, thread, reader, loaded.info, urls)


def load_engine(settings: ServeSettings) -> LoadedModel:
    """Read the files, join the other ranks, load this rank's weights.

    Raises:
        As `build_service`.
    """
    world = World(settings.rank, settings.world_size)
    folder = fetch_config_files(settings.source)
    config = read_model_config(override_rope(read_config(folder), settings.rope))
    config.check_world_size(world.size)
    weights_folder = prepare_weights(settings.source, settings.converted_weights)
    platform = select_platform(world.rank)
    platform.check()
    platform.tune_allocator()
    dtype = DTYPES[settings.dtype] if settings.dtype else platform.default_dtype(config.torch_dtype)
    tokenizer = load_tokenizer(folder, settings.trust_remote_code)
    collective = connect(platform, world, settings.master_addr, settings.master_port)
    scheme = choose_scheme(settings.quantize, platform.device)
    backend = select_backend(platform.device, dtype, config.head_dim, settings.kernel_cache)
    weights = open_weights(weights_folder, platform.device, dtype)
    max_length = served_length(config, tokenizer, settings.max_total_tokens)
    model = load_model(config, weights, platform, collective, dtype, backend, max_length, scheme)
    log.info(
        "model loaded",
        model_id=settings.source.model_id,
        dtype=str(dtype),
        quantize=settings.quantize,
        device=str(platform.device),
        operations=backend.operations.name,
        attention=backend.attention.name,
    )
    engine = Engine(
        model,
        tokenizer,
        platform,
        collective,
        CacheMaker(
            config,
            backend.attention.block_size,
            dtype,
            platform,
            world.size,
            settings.memory_fraction,
        ),
        OutputWriter(tokenizer, world.rank, world.size),
        max_length,
    )
    eos_ids = find_eos_ids(folder, config, tokenizer)
    return LoadedModel(
        engine,
        tokenizer,
        ShardInfo(str(dtype), platform.device.type, backend.attention.name, backend.attention.block_size),
        eos_ids,
        load_grammars(tokenizer, config.vocab_size, eos_ids),
    )


def served_length(config: ModelConfig, tokenizer: ShardTokenizer, wanted: int | None) -> int:
    """The longest sequence to serve: what is wanted, else what the model and its tokenizer declare.

    Raises:
        LengthError: more is wanted than the positions reach, RoPE scaling included, or less than 2 tokens
            are declared.
    """
    declared = config.max_position_embeddings
    if wanted is None:
        longest = min(declared, tokenizer.model_max_length or declared)
        if longest < 2:
            raise LengthError(
                f"the model declares a longest text of {longest} token; at least 2 are needed, a prompt and "
                "its answer: check max_position_embeddings and model_max_length, or set max_total_tokens"
            )
        return longest
    reach = config.rope.reach
    if wanted > reach:
        raise LengthError(f"max_total_tokens is {wanted}, but the model reaches {reach} tokens; lower it")
    return wanted


def override_rope(config: JsonObject, rope: RopeOverride | None) -> JsonObject:
    """The config with the user's RoPE scaling in place of its own."""
    if rope is None:
        return config
    scaling = {"rope_type": rope.scaling, "factor": rope.factor}
    if "rope_parameters" in config:
        kept = {key: value for key, value in config["rope_parameters"].items() if key == "rope_theta"}
        return {**config, "rope_parameters": {**kept, **scaling}}
    return {**config, "rope_scaling": scaling}


def load_grammars(
    tokenizer: ShardTokenizer, vocab_size: int, eos_ids: frozenset[int]
) -> GrammarCompiler | None:
    """What compiles grammars for this model; None, and a warning, where none can be followed."""
    try:
        return GrammarCompiler(load_vocabulary(tokenizer, vocab_size, eos_ids))
    except GrammarError as error:
        log.warning(f"requests with a grammar will be refused: {error}")
        return None


def find_eos_ids(folder: Path, config: ModelConfig, tokenizer: ShardTokenizer) -> frozenset[int]:
    """All ids that end a generation: generation_config.json's (else config.json's), and the tokenizer's.

    Raises:
        ModelFilesError, ConfigError: generation_config.json cannot be read, or names no ids.
    """
    path, ids = folder / "generation_config.json", config.eos_token_ids
    if path.is_file():
        generation = ConfigReader(read_json_object(path), path.name)
        if "eos_token_id" in generation:
            ids = generation.token_ids("eos_token_id")
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)
