"""Everything the router was told at its start; read once in cli.py and passed down."""

from dataclasses import dataclass, field
from pathlib import Path

from tgi_common.hub import ModelSource
from tgi_router.batching.room import JoinPolicy
from tgi_router.client.warmup import WantedLimits
from tgi_router.http.connection import ConnectionLimits
from tgi_router.text.grammar import GrammarLimits


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What the router was asked for.

    Attributes:
        model_id: the model's name as clients see it.
        tokenizer_source: where tokenizer and chat template come from.
        tokenizer_config: takes the place of the model's tokenizer_config.json.
        master_shard_uds_path: socket of a shard that knows all the others.
        hostname: address to listen on.
        limits: what requests may need together; None where the shards decide.
        policy: when new requests may make running ones wait.
        max_choices: highest `n`.
        max_biased_tokens: most tokens in `logit_bias` and in `stop_token_ids`.
        grammar_support: whether grammars are taken at all.
        tool_call_parser: the name of the model's notation of calls; None to find out.
        reasoning_parser: the name of what stands around its reasoning; None to find out.
        payload_limit: longest body of a request, bytes.
        max_client_batch_size: most prompts in one /v1/completions request.
        cors_allow_origin: origins that browsers may call from; all when empty.
        compute_type: what `x-compute-type` says; None for the kind of device.
        api_keys: of which clients must show one; none when anyone may ask.
        protect_metrics: whether /metrics asks for a key too.
        kserve: whether KServe's routes are served.
        aip_health_route: path where Vertex AI asks for health; None off that platform.
        aip_predict_route: path where it asks for predictions.
        body_timeout: seconds that a request's body may take to arrive.
        connections: what a connection may take.
    """

    model_id: str
    tokenizer_source: ModelSource
    tokenizer_config: Path | None
    trust_remote_code: bool
    master_shard_uds_path: Path
    hostname: str
    port: int
    limits: WantedLimits
    policy: JoinPolicy
    max_concurrent_requests: int
    max_best_of: int
    max_stop_sequences: int
    max_top_n_tokens: int
    max_choices: int
    max_messages: int
    max_tools: int
    max_biased_tokens: int
    grammar_support: bool
    grammar_limits: GrammarLimits
    tool_call_parser: str | None
    reasoning_parser: str | None
    max_client_batch_size: int
    validation_workers: int
    payload_limit: int
    cors_allow_origin: tuple[str, ...]
    compute_type: str | None
    api_keys: tuple[str, ...] = field(repr=False)
    protect_metrics: bool
    kserve: bool
    aip_health_route: str | None
    aip_predict_route: str | None
    body_timeout: float
    connections: ConnectionLimits
