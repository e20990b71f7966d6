"""Every option of the launcher, once: name, type, default and help. The command line is made from this."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tgi_common.choices import Dtype, Quantization, RopeScaling
from tgi_common.hub import BUNDLED_MODEL_ID
from tgi_common.options import TOKENS_LIMIT, option, parse_boolean

MODEL = "Model"
SHARDS = "Shards"
LIMITS = "Limits of a request"
BATCHING = "Batching"
HTTP = "HTTP server"
PROCESS = "Logs and processes"

_model = partial(option, rich_help_panel=MODEL)
_shards = partial(option, rich_help_panel=SHARDS)
_limits = partial(option, rich_help_panel=LIMITS)
_batching = partial(option, rich_help_panel=BATCHING)
_http = partial(option, rich_help_panel=HTTP)
_process = partial(option, rich_help_panel=PROCESS)


def _check_boolean(value: str | None) -> str | None:
    return None if value is None else str(parse_boolean("--sharded", value)).lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the launcher was asked for. Names and defaults are TGI's, unless the help says otherwise."""

    model_id: Annotated[
        str,
        _model("--model-id", help="A folder, a Hub id, or `tgi-demo`, the bundled model."),
    ] = BUNDLED_MODEL_ID
    revision: Annotated[str | None, _model("--revision", help="Branch, tag or commit of a Hub model.")] = None
    dtype: Annotated[
        Dtype | None,
        _model("--dtype", help="Type of the weights; the checkpoint's if not given."),
    ] = None
    quantize: Annotated[
        Quantization | None,
        _model("--quantize", help="Keep the weights in 8 or 4 bits; on CPUs, for any checkpoint."),
    ] = None
    disable_custom_kernels: Annotated[
        bool,
        _model(
            "--disable-custom-kernels",
            help="Compute with torch's operations alone, not with the CPU kernels: slower.",
        ),
    ] = False
    trust_remote_code: Annotated[
        bool,
        _model("--trust-remote-code", help="Run code that comes with the model."),
    ] = False
    tokenizer_config_path: Annotated[
        Path | None,
        _model(
            "--tokenizer-config-path",
            help="A tokenizer_config.json, with the chat template, in place of the model's.",
        ),
    ] = None
    tool_call_parser: Annotated[
        str | None,
        _model(
            "--tool-call-parser",
            help="How the model calls tools: hermes, llama3_json, mistral, json; found out if not given.",
        ),
    ] = None
    reasoning_parser: Annotated[
        str | None,
        _model(
            "--reasoning-parser",
            help="How it marks its reasoning: deepseek_r1, qwen3 or mistral; found out if not given.",
        ),
    ] = None
    rope_scaling: Annotated[
        RopeScaling | None,
        _model("--rope-scaling", help="Stretch the model's positions this way."),
    ] = None
    rope_factor: Annotated[
        float | None,
        _model("--rope-factor", help="How far to stretch them.", min=1.0),
    ] = None
    huggingface_hub_cache: Annotated[
        Path | None,
        _model("--huggingface-hub-cache", help="Folder that Hub files are stored in."),
    ] = None
    weights_cache_override: Annotated[
        Path | None,
        _model("--weights-cache-override", help="Folder that holds the weight files."),
    ] = None

    num_shard: Annotated[
        int | None,
        _shards(
            "--num-shard",
            help="Processes to divide the model over; if not given, one for each GPU that the model can use.",
            min=1,
        ),
    ] = None
    sharded: Annotated[
        str | None,
        _shards(
            "--sharded",
            help="Whether to divide the model at all.",
            metavar="true|false",
            callback=_check_boolean,
        ),
    ] = None
    shard_uds_path: Annotated[
        Path,
        _shards("--shard-uds-path", help="Prefix of the shards' sockets; `-RANK` is appended."),
    ] = Path("/tmp/text-generation-server")  # noqa: S108 - TGI's default; the sockets are for this user alone
    master_addr: Annotated[str, _shards("--master-addr", help="Address where the shards meet.")] = "localhost"
    master_port: Annotated[
        int | None,
        _shards(
            "--master-port", help="Port where the shards meet; a free one if not given.", min=1, max=65535
        ),
    ] = None
    cuda_memory_fraction: Annotated[
        float | None,
        _shards(
            "--cuda-memory-fraction",
            help="Part of the free memory that the KV cache takes; what suits the device if not given.",
            min=0.01,
            max=1.0,
        ),
    ] = None

    max_concurrent_requests: Annotated[
        int,
        _limits("--max-concurrent-requests", help="More are answered with 429.", min=1),
    ] = 128
    max_input_tokens: Annotated[
        int | None,
        _limits(
            "--max-input-tokens",
            help="Longest prompt; if not given, what the model and the memory allow.",
            min=1,
            max=TOKENS_LIMIT,
        ),
    ] = None
    max_input_length: Annotated[
        int | None,
        _limits("--max-input-length", help="Old name of --max-input-tokens.", min=1, max=TOKENS_LIMIT),
    ] = None
    max_total_tokens: Annotated[
        int | None,
        _limits(
            "--max-total-tokens",
            help="Longest prompt and answer together; if not given, what the model and the memory allow.",
            min=2,
            max=TOKENS_LIMIT,
        ),
    ] = None
    max_best_of: Annotated[int, _limits("--max-best-of", help="Largest best_of.", min=1)] = 2
    max_stop_sequences: Annotated[
        int,
        _limits("--max-stop-sequences", help="Most stop sequences of a request.", min=0),
    ] = 4
    max_top_n_tokens: Annotated[
        int,
        _limits("--max-top-n-tokens", help="Largest top_n_tokens and top_logprobs.", min=0),
    ] = 20
    max_n: Annotated[int, _limits("--max-n", help="Largest n: answers to one prompt.", min=1)] = 128
    max_messages: Annotated[
        int, _limits("--max-messages", help="Most messages of a conversation.", min=1)
    ] = 2048
    max_tools: Annotated[int, _limits("--max-tools", help="Most tools in a request.", min=0)] = 128
    max_logit_bias: Annotated[
        int,
        _limits("--max-logit-bias", help="Most tokens in logit_bias and in stop_token_ids.", min=0),
    ] = 1024
    disable_grammar_support: Annotated[
        bool, _limits("--disable-grammar-support", help="Refuse requests with a grammar or a schema.")
    ] = False
    max_grammar_bytes: Annotated[
        int, _limits("--max-grammar-bytes", help="Longest grammar or JSON schema, in bytes.", min=1)
    ] = 65_536
    max_schema_depth: Annotated[
        int, _limits("--max-schema-depth", help="Deepest nesting of a JSON schema.", min=1)
    ] = 64
    max_regex_length: Annotated[
        int, _limits("--max-regex-length", help="Longest regular expression, in characters.", min=1)
    ] = 4096
    max_client_batch_size: Annotated[
        int,
        _limits("--max-client-batch-size", help="Most prompts in one request.", min=1),
    ] = 4
    payload_limit: Annotated[
        int,
        _limits("--payload-limit", help="Largest request body, in bytes.", min=1),
    ] = 2_000_000
    validation_workers: Annotated[
        int,
        _limits("--validation-workers", help="Threads that tokenize prompts.", min=1),
    ] = 2

    max_batch_prefill_tokens: Annotated[
        int | None,
        _batching(
            "--max-batch-prefill-tokens",
            help="Most prompt tokens in one step; longer prompts are cut. Default: 4096, on CPUs 512.",
            min=1,
            max=TOKENS_LIMIT,
        ),
    ] = None
    max_batch_total_tokens: Annotated[
        int | None,
        _batching(
            "--max-batch-total-tokens",
            help="Most tokens that running requests may hold; if not given, what the memory allows.",
            min=1,
        ),
    ] = None
    max_batch_size: Annotated[
        int | None,
        _batching("--max-batch-size", help="Most requests in one step.", min=1),
    ] = None
    waiting_served_ratio: Annotated[
        float,
        _batching(
            "--waiting-served-ratio",
            help="Waiting to running requests that interrupt decoding (shards that cannot chunk).",
            min=0.0,
        ),
    ] = 0.3
    max_waiting_tokens: Annotated[
        int,
        _batching(
            "--max-waiting-tokens",
            help="Steps after which waiting requests interrupt decoding (shards that cannot chunk).",
            min=0,
        ),
    ] = 20

    hostname: Annotated[
        str | None,
        # Not read from the environment by typer: see `bind_address`.
        typer.Option(
            "--hostname",
            help="Address to listen on; also HOSTNAME, if that is an IP address. Default: 0.0.0.0.",
            show_default=False,
            rich_help_panel=HTTP,
        ),
    ] = None
    port: Annotated[
        int,
        # On Vertex AI the platform chooses, over what the image says.
        _http("--port", "-p", help="Port to listen on.", min=1, max=65535, before=("AIP_HTTP_PORT",)),
    ] = 3000
    api_key: Annotated[
        list[str] | None,
        # Not read from the environment by typer, which cuts lists at blanks: see `read_api_keys`.
        typer.Option(
            "--api-key",
            help="Key that clients must send, or several with commas; can be given again; also API_KEY.",
            show_default=False,
            rich_help_panel=HTTP,
        ),
    ] = field(default=None, repr=False)
    protect_metrics: Annotated[
        bool,
        _http("--protect-metrics", help="Ask for a key at /metrics too."),
    ] = False
    cors_allow_origin: Annotated[
        list[str] | None,
        _http(
            "--cors-allow-origin", help="Web origin that may call; can be given several times. Default: any."
        ),
    ] = None
    kserve: Annotated[
        bool,
        _http("--kserve", help="Serve KServe's routes (/v2) too."),
    ] = False
    header_timeout: Annotated[
        float,
        _http(
            "--header-timeout", help="Seconds that a request's line and headers may take to arrive.", min=0.1
        ),
    ] = 30.0
    body_timeout: Annotated[
        float,
        _http("--body-timeout", help="Seconds that a request's body may take to arrive.", min=0.1),
    ] = 60.0
    write_timeout: Annotated[
        float,
        _http("--write-timeout", help="Seconds that a client may leave its answer unread.", min=0.1),
    ] = 60.0
    max_connections: Annotated[
        int,
        _http("--max-connections", help="Open connections; more are answered with 503.", min=1),
    ] = 4096

    json_output: Annotated[bool, _process("--json-output", help="Write log lines as JSON.")] = False
    graceful_termination_timeout: Annotated[
        float,
        _process(
            "--graceful-termination-timeout",
            "-g",
            help="Seconds that running requests have to finish after SIGTERM.",
            min=0.0,
        ),
    ] = 90.0
    env: Annotated[
        bool,
        typer.Option("--env", "-e", help="Log facts about this machine first.", rich_help_panel=PROCESS),
    ] = False

    @property
    def longest_input(self) -> int | None:
        """--max-input-tokens, under either of its names."""
        return self.max_input_tokens if self.max_input_tokens is not None else self.max_input_length
