import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

import tgi_launcher.cli
from tgi_launcher.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "launcher.md"
ROW = re.compile(r"^\| `(--[a-z-]+)`(?:, `-\w`)? \| ([A-Z_]+|none) \| (.+?) \| (.+) \|$", re.MULTILINE)

# TGI 3.3.6, launcher/src/main.rs; those that are unset there are None.
TGI_DEFAULTS = {
    "revision": None,
    "validation_workers": 2,
    "sharded": None,
    "num_shard": None,
    "dtype": None,
    "trust_remote_code": False,
    "max_concurrent_requests": 128,
    "max_best_of": 2,
    "max_stop_sequences": 4,
    "max_top_n_tokens": 20,
    "max_n": 128,
    "disable_grammar_support": False,
    "max_grammar_bytes": 65_536,
    "max_schema_depth": 64,
    "max_regex_length": 4096,
    "tool_call_parser": None,
    "reasoning_parser": None,
    "max_messages": 2048,
    "max_tools": 128,
    "max_logit_bias": 1024,
    "max_input_tokens": None,
    "max_input_length": None,
    "max_total_tokens": None,
    "waiting_served_ratio": 0.3,
    "max_batch_prefill_tokens": None,
    "max_batch_total_tokens": None,
    "max_waiting_tokens": 20,
    "max_batch_size": None,
    "port": 3000,
    "shard_uds_path": Path("/tmp/text-generation-server"),
    "master_addr": "localhost",
    "huggingface_hub_cache": None,
    "weights_cache_override": None,
    "rope_scaling": None,
    "rope_factor": None,
    "json_output": False,
    "cors_allow_origin": None,
    "tokenizer_config_path": None,
    "env": False,
    "max_client_batch_size": 4,
    "payload_limit": 2_000_000,
    "graceful_termination_timeout": 90,
}


def declared() -> dict[str, Any]:
    """The options of the command line by the name of their field, `--version` and `--help` left out."""
    command: Any = typer.main.get_command(tgi_launcher.cli.app)
    names = {field.name for field in fields(Settings)}
    return {option.name: option for option in command.params if option.name in names}


def documented() -> dict[str, tuple[str, str]]:
    """Options of the page's table: variable and default."""
    return {flag: (variable, default) for flag, variable, default, _ in ROW.findall(PAGE.read_text())}


def test_each_field_is_the_option_of_its_name() -> None:
    assert declared().keys() == {field.name for field in fields(Settings)}
    for name, option in declared().items():
        assert option.opts[0] == "--" + name.replace("_", "-")
        assert option.help
        assert "[" not in option.help, "the command line takes it for markup and shows nothing"
        assert option.rich_help_panel


def test_each_option_has_the_variable_of_its_name() -> None:
    for name, option in declared().items():
        own = name.upper()
        known = {"hostname": None, "api_key": None, "env": None, "port": ["AIP_HTTP_PORT", own]}
        assert option.envvar == known.get(name, own)


@pytest.mark.parametrize(("name", "default"), TGI_DEFAULTS.items())
def test_defaults_are_tgis(name: str, default: object) -> None:
    assert getattr(Settings(), name) == default


def test_the_page_lists_exactly_the_options() -> None:
    assert documented().keys() == {option.opts[0] for option in declared().values()} | {"--version"}


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_the_page_names_the_variable_and_the_default(name: str) -> None:
    variable, default = documented()["--" + name.replace("_", "-")]
    assert variable == ("none" if name == "env" else name.upper())
    value = getattr(Settings(), name)
    if isinstance(value, bool):
        assert default == "off"
    elif isinstance(value, float):
        assert default == f"{value:g}"
    elif value is not None:
        assert default.strip("`") == str(value)
