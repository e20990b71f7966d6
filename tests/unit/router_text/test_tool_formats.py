"""The notation of calls is chosen from the option, the checkpoint and its template."""

from typing import Any

import pytest

from tgi_router.text.tools.choose import UnknownFormatError, choose_format
from tgi_router.text.tools.formats import (
    FORMAT_NAMES,
    HERMES,
    JSON,
    LLAMA3_JSON,
    MISTRAL,
    MISTRAL_TAGGED,
    ToolFormat,
)


@pytest.mark.parametrize(
    ("template", "tool_format"),
    [
        ("{{- '<tool_call>\\n' }}", HERMES),
        ("<tool_call>\n<function=example_function_name>", JSON),
        ("{{ '<|python_tag|>' }}", LLAMA3_JSON),
        ('Respond in the format {"name": function name, "parameters": dictionary …}', LLAMA3_JSON),
        ("{{ '[TOOL_CALLS] [' }}", MISTRAL),
        ("{{ '[TOOL_CALLS]' + name + '[ARGS]' }}", MISTRAL_TAGGED),
        ("{{ messages }}", JSON),
        (None, JSON),
    ],
)
def test_a_template_shows_the_notation_of_its_model(template: str | None, tool_format: ToolFormat) -> None:
    assert choose_format(None, {}, template) is tool_format


@pytest.mark.parametrize(
    "config",
    [
        {"response_template": {"fields": {"tool_calls": {"open": "<|python_tag|>", "content": "json"}}}},
        {"response_schema": {"properties": {"tool_calls": {"x-regex": r"<\|python_tag\|>(.*)"}}}},
    ],
)
def test_what_the_checkpoint_declares_goes_before_its_template(config: dict[str, Any]) -> None:
    assert choose_format(None, config, "<tool_call>") is LLAMA3_JSON


def test_an_option_goes_before_everything() -> None:
    assert choose_format("json", {"response_template": {"open": "[TOOL_CALLS]"}}, "<tool_call>") is JSON
    assert choose_format("qwen", {}, None) is HERMES


def test_a_name_of_several_notations_leaves_the_choice_to_the_template() -> None:
    assert choose_format("mistral", {}, "[TOOL_CALLS]name[ARGS]") is MISTRAL_TAGGED
    assert choose_format("mistral", {}, "") is MISTRAL


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownFormatError, match=f"'xml'.*{', '.join(FORMAT_NAMES)}"):
        choose_format("xml", {}, None)
