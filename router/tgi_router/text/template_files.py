"""Finds a model's chat template and special tokens among its files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgi_router.text.templates import ChatTemplate

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TemplateFilesError(Exception):
    """A file that should hold the template cannot be read. The message is one line for the user."""


def load_chat_template(folder: Path, tokenizer_config: Path | None = None) -> ChatTemplate:
    """The model's template, compiled.

    Looked for in `tokenizer_config`, if given (`--tokenizer-config-path`), then in the folder's
    chat_template.jinja, chat_template.json and tokenizer_config.json.

    Raises:
        TemplateFilesError: a file is not what its name says.
    """
    config = read_tokenizer_config(folder, tokenizer_config)
    source = _template_of(config) if tokenizer_config is not None else None
    if source is None:
        source = _template_in(folder, config)
    legacy = _read_object(folder / "special_tokens_map.json")
    return ChatTemplate(source, {**_special_tokens_of(legacy), **_special_tokens_of(config)})


def read_tokenizer_config(folder: Path, tokenizer_config: Path | None = None) -> dict[str, Any]:
    """The model's tokenizer_config.json, empty if there is none, or the file in its place.

    Raises:
        TemplateFilesError: the file is no JSON object; one in its place does not exist.
    """
    config = _read_object(tokenizer_config or folder / "tokenizer_config.json")
    if tokenizer_config is not None and not config:
        raise TemplateFilesError(f"{tokenizer_config} (--tokenizer-config-path) does not exist or is empty")
    return config


def _template_in(folder: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return _read_text(jinja)
    return _template_of(_read_object(folder / "chat_template.json")) or _template_of(tokenizer_config)


def _template_of(config: Mapping[str, Any]) -> str | None:
    """The template in a config: a text, or the one called `default` of a list of named ones."""
    template = config.get("chat_template")
    if isinstance(template, list):
        template = next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
    return template if isinstance(template, str) else None


def _special_tokens_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by name; each is written as a text or as an object with its `content`."""
    tokens = {}
    for name in SPECIAL_TOKENS:
        value = config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if there is no file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path))
    except ValueError as error:
        raise TemplateFilesError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise TemplateFilesError(f"{path} must hold a JSON object, not {type(value).__name__}")
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateFilesError(f"{path} cannot be read: {error}") from None
