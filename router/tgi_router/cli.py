"""The command `text-generation-router`: its options, as TGI names them, and nothing else."""

import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from tgi_common.api_keys import ApiKeyError, read_api_keys
from tgi_common.hub import BUNDLED_MODEL_ID, ModelSource
from tgi_common.logging import LogLevel, configure_logging
from tgi_common.options import TOKENS_LIMIT, option, run_command, run_or_exit
from tgi_common.process import die_with_parent
from tgi_router.app import serve
from tgi_router.batching.room import JoinPolicy
from tgi_router.client.warmup import WantedLimits
from tgi_router.http.connection import ConnectionLimits
from tgi_router.settings import RouterSettings
from tgi_router.text.grammar import GrammarLimits
from tgi_router.text.reasoning import REASONING_NAMES
from tgi_router.text.tools.formats import FORMAT_NAMES

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - a server's default, as TGI's

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
log = structlog.get_logger(__name__)


@app.command()
def route(
    max_concurrent_requests: Annotated[
        int, option("--max-concurrent-requests", help="Generations at a time; more get 429.", min=1)
    ] = 128,
    max_best_of: Annotated[int, option("--max-best-of", help="Highest `best_of`.", min=1)] = 2,
    max_stop_sequences: Annotated[
        int, option("--max-stop-sequences", help="Most stop strings in a request.", min=0)
    ] = 4,
    max_top_n_tokens: Annotated[
        int, option("--max-top-n-tokens", help="Highest `top_n_tokens` and `top_logprobs`.", min=0)
    ] = 20,
    max_n: Annotated[int, option("--max-n", help="Highest `n`: answers to one prompt.", min=1)] = 128,
    max_messages: Annotated[
        int, option("--max-messages", help="Most messages of a conversation.", min=1)
    ] = 2048,
    max_tools: Annotated[int, option("--max-tools", help="Most tools in a request.", min=0)] = 128,
    max_logit_bias: Annotated[
        int,
        option("--max-logit-bias", help="Most tokens in `logit_bias` and in `stop_token_ids`.", min=0),
    ] = 1024,
    max_input_tokens: Annotated[
        int | None,
        option(
            "--max-input-tokens",
            help="Longest prompt; warmup decides if not given.",
            min=1,
            max=TOKENS_LIMIT,
        ),
    ] = None,
    max_total_tokens: Annotated[
        int | None,
        option(
            "--max-total-tokens",
            help="Longest prompt and answer; warmup decides if not given.",
            min=2,
            max=TOKENS_LIMIT,
        ),
    ] = None,
    max_batch_prefill_tokens: Annotated[
        int | None,
        option(
            "--max-batch-prefill-tokens",
            help="Prompt tokens in one step; if not given 4096, on CPUs 512, or what the memory holds.",
            min=1,
            max=TOKENS_LIMIT,
        ),
    ] = None,
    max_batch_total_tokens: Annotated[
        int | None,
        option(
            "--max-batch-total-tokens",
            help="Tokens that all running requests may grow to, for shards that do not say.",
            min=1,
        ),
    ] = None,
    max_batch_size: Annotated[
        int | None, option("--max-batch-size", help="Most requests in a step.", min=1)
    ] = None,
    waiting_served_ratio: Annotated[
        float,
        option(
            "--waiting-served-ratio",
            help="Waiting requests for each running one that make the running ones wait for a prompt.",
            min=0.0,
        ),
    ] = 0.3,
    max_waiting_tokens: Annotated[
        int,
        option("--max-waiting-tokens", help="Steps after which any waiting request may do so.", min=0),
    ] = 20,
    disable_grammar_support: Annotated[
        bool, option("--disable-grammar-support", help="Refuse requests with a grammar or a schema.")
    ] = False,
    max_grammar_bytes: Annotated[
        int, option("--max-grammar-bytes", help="Longest grammar or JSON schema, in bytes.", min=1)
    ] = 65_536,
    max_schema_depth: Annotated[
        int, option("--max-schema-depth", help="Deepest nesting of a JSON schema.", min=1)
    ] = 64,
    max_regex_length: Annotated[
        int, option("--max-regex-length", help="Longest regular expression, in characters.", min=1)
    ] = 4096,
    tool_call_parser: Annotated[
        str | None,
        option(
            "--tool-call-parser",
            help=f"How the model writes calls of tools: {', '.join(FORMAT_NAMES)}; found out if not given.",
        ),
    ] = None,
    reasoning_parser: Annotated[
        str | None,
        option(
            "--reasoning-parser",
            help=f"How it marks its reasoning: {', '.join(REASONING_NAMES)}; found out if not given.",
        ),
    ] = None,
    max_client_batch_size: Annotated[
        int, option("--max-client-batch-size", help="Most prompts in one /v1/completions request.", min=1)
    ] = 4,
    validation_workers: Annotated[
        int, option("--validation-workers", help="Threads that tokenize prompts.", min=1)
    ] = 2,
    payload_limit: Annotated[
        int, option("--payload-limit", help="Longest body of a request, in bytes.", min=1)
    ] = 2_000_000,
    hostname: Annotated[str, option("--hostname", help="Address to listen on.")] = ANY_ADDRESS,
    port: Annotated[
        int, option("--port", "-p", help="Port to listen on.", min=1, max=65535, before=("AIP_HTTP_PORT",))
    ] = 3000,
    api_key: Annotated[
        list[str] | None,
        # Not read from the environment by typer, which cuts lists at blanks: see `read_api_keys`.
        typer.Option(
            "--api-key",
            help="Key that clients must send, or several with commas; may be given again; also API_KEY.",
        ),
    ] = None,
    protect_metrics: Annotated[
        bool, option("--protect-metrics", help="Ask for a key at /metrics too.")
    ] = False,
    cors_allow_origin: Annotated[
        list[str] | None,
        option(
            "--cors-allow-origin",
            help="Origin that browsers may call from; may be given several times. Any if not given.",
        ),
    ] = None,
    kserve: Annotated[bool, option("--kserve", help="Serve KServe's routes (/v2) too.")] = False,
    header_timeout: Annotated[
        float,
        option(
            "--header-timeout", help="Seconds that a request's line and headers may take to arrive.", min=0.1
        ),
    ] = 30.0,
    body_timeout: Annotated[
        float, option("--body-timeout", help="Seconds that a request's body may take to arrive.", min=0.1)
    ] = 60.0,
    write_timeout: Annotated[
        float, option("--write-timeout", help="Seconds that a client may leave its answer unread.", min=0.1)
    ] = 60.0,
    max_connections: Annotated[
        int, option("--max-connections", help="Open connections; more are answered with 503.", min=1)
    ] = 4096,
    master_shard_uds_path: Annotated[
        Path, option("--master-shard-uds-path", help="Unix socket of the first shard.")
    ] = Path("/tmp/text-generation-server-0"),
    tokenizer_name: Annotated[
        str, option("--tokenizer-name", help="Folder, Hub id or `tgi-demo`: tokenizer and chat template.")
    ] = BUNDLED_MODEL_ID,
    model_id: Annotated[
        str | None, option("--model-id", help="The model's name for clients; the tokenizer's if not given.")
    ] = None,
    revision: Annotated[
        str | None, option("--revision", help="Branch, tag or commit of a Hub model.")
    ] = None,
    tokenizer_config_path: Annotated[
        Path | None,
        option("--tokenizer-config-path", help="A tokenizer_config.json with another chat template."),
    ] = None,
    trust_remote_code: Annotated[
        bool, option("--trust-remote-code", help="Run tokenizer code that comes with the model.")
    ] = False,
    json_output: Annotated[bool, option("--json-output", help="Write log lines as JSON.")] = False,
    logger_level: Annotated[
        LogLevel,
        typer.Option(
            parser=LogLevel.parse, metavar="LEVEL", envvar="LOG_LEVEL", help="The least level logged."
        ),
    ] = LogLevel.INFO,
    compute_type: Annotated[str | None, typer.Option(envvar="COMPUTE_TYPE", hidden=True)] = None,
    aip_health_route: Annotated[str | None, typer.Option(envvar="AIP_HEALTH_ROUTE", hidden=True)] = None,
    aip_predict_route: Annotated[str | None, typer.Option(envvar="AIP_PREDICT_ROUTE", hidden=True)] = None,
) -> None:
    """The HTTP side of the text-generation inference server: takes requests, batches them for the shards."""
    configure_logging(logger_level, json_output=json_output)
    die_with_parent()
    settings = RouterSettings(
        model_id=model_id or tokenizer_name,
        tokenizer_source=ModelSource.from_environment(tokenizer_name, revision, os.environ),
        tokenizer_config=tokenizer_config_path,
        trust_remote_code=trust_remote_code,
        master_shard_uds_path=master_shard_uds_path,
        hostname=bindable(hostname),
        port=port,
        limits=WantedLimits(
            max_batch_prefill_tokens=max_batch_prefill_tokens,
            max_input_tokens=max_input_tokens,
            max_total_tokens=max_total_tokens,
            max_batch_total_tokens=max_batch_total_tokens,
            max_batch_size=max_batch_size,
        ),
        policy=JoinPolicy(waiting_served_ratio, max_waiting_tokens),
        max_concurrent_requests=max_concurrent_requests,
        max_best_of=max_best_of,
        max_stop_sequences=max_stop_sequences,
        max_top_n_tokens=max_top_n_tokens,
        max_choices=max_n,
        max_messages=max_messages,
        max_tools=max_tools,
        max_biased_tokens=max_logit_bias,
        grammar_support=not disable_grammar_support,
        grammar_limits=GrammarLimits(
            max_source_bytes=max_grammar_bytes,
            max_schema_depth=max_schema_depth,
            max_regex_characters=max_regex_length,
        ),
        tool_call_parser=tool_call_parser,
        reasoning_parser=reasoning_parser,
        max_client_batch_size=max_client_batch_size,
        validation_workers=validation_workers,
        payload_limit=payload_limit,
        cors_allow_origin=tuple(cors_allow_origin or ()),
        compute_type=compute_type,
        api_keys=checked_keys(api_key or []),
        protect_metrics=protect_metrics,
        kserve=kserve,
        aip_health_route=aip_health_route,
        aip_predict_route=aip_predict_route,
        body_timeout=body_timeout,
        connections=ConnectionLimits(
            header_timeout=header_timeout, write_timeout=write_timeout, max_connections=max_connections
        ),
    )
    run_or_exit(lambda: serve_until_stopped(settings), logger_level)


def checked_keys(given: Sequence[str]) -> tuple[str, ...]:
    """The API keys of the command line or the environment."""
    try:
        return read_api_keys(given, os.environ)
    except ApiKeyError as error:
        raise typer.BadParameter(str(error), param_hint="--api-key") from None


def bindable(hostname: str) -> str:
    """An address to listen on; for what is not one, such as a container's name, all of them, as TGI does."""
    if hostname == "localhost":
        return hostname
    try:
        return str(ipaddress.ip_address(hostname))
    except ValueError:
        log.warning("not an address, so listening on all", hostname=hostname)
        return ANY_ADDRESS


def serve_until_stopped(settings: RouterSettings) -> None:
    """Start, then answer requests."""
    uvloop.run(serve(settings))


def main() -> None:
    """Entry point of `text-generation-router`."""
    run_command(app)


if __name__ == "__main__":
    main()
