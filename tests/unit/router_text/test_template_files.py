"""Where a model's chat template and special tokens are found."""

import json
from pathlib import Path
from typing import Any

import pytest

from tgi_router.text.conversation import Conversation
from tgi_router.text.template_files import TemplateFilesError, load_chat_template

MESSAGES = [{"role": "user", "content": "hi"}]


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def rendered(folder: Path, tokenizer_config: Path | None = None) -> str:
    return load_chat_template(folder, tokenizer_config).render(Conversation(MESSAGES))


def test_the_tokenizers_config_holds_it(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", {"chat_template": "config {{ bos_token }}", "bos_token": "<s>"})
    assert rendered(tmp_path) == "config <s>"


def test_of_named_templates_the_default_one_counts(tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "default"}]
    write(tmp_path, "tokenizer_config.json", {"chat_template": templates})
    assert rendered(tmp_path) == "default"


def test_a_jinja_file_wins_over_both_configs(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", {"chat_template": "config"})
    write(tmp_path, "chat_template.json", {"chat_template": "json"})
    assert rendered(tmp_path) == "json"
    write(tmp_path, "chat_template.jinja", "jinja")
    assert rendered(tmp_path) == "jinja"


def test_the_file_of_the_option_wins_over_all(tmp_path: Path) -> None:
    write(tmp_path, "chat_template.jinja", "jinja {{ eos_token }}")
    option = write(tmp_path, "mine.json", {"chat_template": "mine {{ eos_token }}", "eos_token": "</mine>"})
    assert rendered(tmp_path, option) == "mine </mine>"


def test_an_option_file_without_a_template_only_brings_its_tokens(tmp_path: Path) -> None:
    write(tmp_path, "chat_template.jinja", "jinja {{ eos_token }}")
    option = write(tmp_path, "mine.json", {"eos_token": {"content": "</mine>"}})
    assert rendered(tmp_path, option) == "jinja </mine>"


def test_special_tokens_may_be_objects_and_may_come_from_the_older_file(tmp_path: Path) -> None:
    write(tmp_path, "special_tokens_map.json", {"bos_token": "<old>", "eos_token": {"content": "</old>"}})
    write(tmp_path, "tokenizer_config.json", {"bos_token": {"content": "<new>", "special": True}})
    write(tmp_path, "chat_template.jinja", "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}")
    assert rendered(tmp_path) == "<new></old>False"


def test_a_model_without_a_template_says_so(tmp_path: Path) -> None:
    assert load_chat_template(tmp_path).fault == "template not found"


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_broken_config_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path, "tokenizer_config.json", content)
    with pytest.raises(TemplateFilesError, match=r"tokenizer_config\.json"):
        load_chat_template(tmp_path)


def test_a_missing_option_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TemplateFilesError, match="--tokenizer-config-path"):
        load_chat_template(tmp_path, tmp_path / "no-such.json")
