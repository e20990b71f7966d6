"""The command line: TGI's option names, their variables and defaults."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tgi_router import cli
from tgi_router.settings import RouterSettings


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[RouterSettings]:
    """Keeps the settings instead of serving."""
    kept: list[RouterSettings] = []
    monkeypatch.setattr(cli, "serve_until_stopped", kept.append)
    monkeypatch.setattr(cli, "configure_logging", lambda level, json_output: None)
    return kept


def parse(kept: list[RouterSettings], *arguments: str, **environment: str) -> RouterSettings:
    # Variables of the machine, such as HOSTNAME, are options too.
    clean: dict[str, str | None] = {
        "HOSTNAME": None,
        "PORT": None,
        "API_KEY": None,
        "MODEL_ID": None,
        "REVISION": None,
    }
    result = CliRunner().invoke(cli.app, list(arguments), env=clean | environment)
    assert result.exit_code == 0, result.output
    return kept[-1]


def test_defaults_are_tgis(parsed: list[RouterSettings]) -> None:
    settings = parse(parsed)
    assert settings.model_id == settings.tokenizer_source.model_id == "tgi-demo"
    assert (settings.hostname, settings.port) == ("0.0.0.0", 3000)
    assert settings.master_shard_uds_path == Path("/tmp/text-generation-server-0")
    assert (settings.max_concurrent_requests, settings.max_best_of) == (128, 2)
    assert (settings.max_stop_sequences, settings.max_top_n_tokens) == (4, 20)
    assert (settings.max_client_batch_size, settings.validation_workers) == (4, 2)
    assert settings.payload_limit == 2_000_000
    assert settings.limits.max_batch_prefill_tokens is None
    assert settings.limits.max_input_tokens is settings.limits.max_total_tokens is None
    assert settings.limits.max_batch_total_tokens is settings.limits.max_batch_size is None
    assert (settings.policy.waiting_served_ratio, settings.policy.max_waiting_tokens) == (0.3, 20)
    assert settings.cors_allow_origin == ()
    assert settings.compute_type is None


def test_options_are_read(parsed: list[RouterSettings]) -> None:
    settings = parse(
        parsed,
        *("--tokenizer-name", "org/model", "--revision", "abc", "--port", "8080", "--hostname", "127.0.0.1"),
        *("--max-input-tokens", "10", "--max-total-tokens", "20", "--max-batch-size", "3"),
        *(
            "--waiting-served-ratio",
            "1.2",
            "--cors-allow-origin",
            "http://a",
            "--cors-allow-origin",
            "http://b",
        ),
    )
    assert (settings.tokenizer_source.model_id, settings.tokenizer_source.revision) == ("org/model", "abc")
    assert settings.model_id == "org/model"
    assert (settings.hostname, settings.port) == ("127.0.0.1", 8080)
    assert (settings.limits.max_input_tokens, settings.limits.max_total_tokens) == (10, 20)
    assert settings.limits.max_batch_size == 3
    assert settings.policy.waiting_served_ratio == 1.2
    assert settings.cors_allow_origin == ("http://a", "http://b")


def test_every_option_has_its_variable(parsed: list[RouterSettings]) -> None:
    settings = parse(
        parsed,
        MAX_CONCURRENT_REQUESTS="7",
        PAYLOAD_LIMIT="99",
        TOKENIZER_CONFIG_PATH="/x.json",
        COMPUTE_TYPE="1-card",
        MODEL_ID="shown",
    )
    assert (settings.max_concurrent_requests, settings.payload_limit) == (7, 99)
    assert settings.tokenizer_config == Path("/x.json")
    assert (settings.compute_type, settings.model_id) == ("1-card", "shown")


@pytest.mark.parametrize(
    ("hostname", "address"),
    [("::", "::"), ("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("9f86d081884c", "0.0.0.0")],
)
def test_what_is_no_address_means_all_of_them(
    parsed: list[RouterSettings], hostname: str, address: str
) -> None:
    assert parse(parsed, HOSTNAME=hostname).hostname == address


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "many"], ["--port", "many"]),
        (["--max-batch-size", "0"], ["--max-batch-size", "0"]),
        (["--no-such-option"], ["--no-such-option"]),
    ],
)
def test_a_wrong_option_is_one_line_and_code_2(arguments: list[str], words: list[str]) -> None:
    command = [sys.executable, "-m", "tgi_router.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert all(word in line for word in words)


def test_shards_that_are_not_there_are_one_line_and_code_1(tmp_path: Path) -> None:
    options = ["--master-shard-uds-path", str(tmp_path / "none"), "--port", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tgi_router.cli", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert str(tmp_path / "none") in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr


def test_api_keys_come_from_options_or_the_environment_and_do_not_show(parsed: list[RouterSettings]) -> None:
    given = parse(parsed, "--api-key", "secret-a,secret-b", "--api-key", "secret-c", API_KEY="secret-d")
    assert given.api_keys == ("secret-a", "secret-b", "secret-c")
    assert parse(parsed, API_KEY="secret-d,secret-e").api_keys == ("secret-d", "secret-e")
    assert parse(parsed).api_keys == ()
    assert "secret" not in repr(given)


def test_vertex_ai_chooses_port_and_routes(parsed: list[RouterSettings]) -> None:
    settings = parse(parsed, PORT="80", AIP_HTTP_PORT="8081", AIP_HEALTH_ROUTE="/h", AIP_PREDICT_ROUTE="/p")
    assert (settings.port, settings.aip_health_route, settings.aip_predict_route) == (8081, "/h", "/p")
