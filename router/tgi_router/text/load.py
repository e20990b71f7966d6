"""Everything about texts that the router needs of a model: read once, at the start."""

from dataclasses import dataclass
from pathlib import Path

import structlog

from tgi_common.hub import fetch_config_files
from tgi_router.settings import RouterSettings
from tgi_router.text.byte_vocabulary import byte_vocabulary
from tgi_router.text.dialect import Dialect
from tgi_router.text.grammar import GrammarChecker
from tgi_router.text.reasoning import UnknownReasoningError, choose_reasoning
from tgi_router.text.template_files import load_chat_template, read_tokenizer_config
from tgi_router.text.templates import ChatTemplate
from tgi_router.text.tokenizer import PromptTokenizer
from tgi_router.text.tools.choose import UnknownFormatError, choose_format

_log = structlog.get_logger(__name__)


class DialectError(Exception):
    """An option names a notation that there is not. The message is one line for the user."""


@dataclass(frozen=True, slots=True)
class ModelTexts:
    """How the model reads and writes.

    Attributes:
        grammars: checks grammars; None where they are disabled.
    """

    tokenizer: PromptTokenizer
    template: ChatTemplate
    dialect: Dialect
    grammars: GrammarChecker | None


def load_texts(settings: RouterSettings) -> ModelTexts:
    """Read the model's tokenizer and chat template; they are fetched from the Hub if they are not at hand.

    Raises:
        ModelFilesError, TokenizerError, TemplateFilesError: they cannot be had or used.
        DialectError: an option names no notation.
    """
    folder = fetch_config_files(settings.tokenizer_source)
    tokenizer = PromptTokenizer.load(folder, trust_remote_code=settings.trust_remote_code)
    template = load_chat_template(folder, settings.tokenizer_config)
    if template.fault is not None:
        _log.warning("chats will be refused", reason=template.fault)
    special = tokenizer.special_tokens()
    grammars = None
    if settings.grammar_support:
        grammars = GrammarChecker(byte_vocabulary(special, tokenizer.size), settings.grammar_limits)
    return ModelTexts(tokenizer, template, find_dialect(settings, folder, template, special), grammars)


def find_dialect(
    settings: RouterSettings, folder: Path, template: ChatTemplate, special: dict[int, str]
) -> Dialect:
    """How the model calls tools and reasons: as the options say, or its files.

    Raises:
        DialectError: an option names no notation.
    """
    config = read_tokenizer_config(folder, settings.tokenizer_config)
    try:
        tool_format = choose_format(settings.tool_call_parser, config, template.source)
    except UnknownFormatError as error:
        raise DialectError(f"--tool-call-parser: {error}") from None
    try:
        reasoning = choose_reasoning(settings.reasoning_parser, template.source)
    except UnknownReasoningError as error:
        raise DialectError(f"--reasoning-parser: {error}") from None
    return Dialect(tool_format, reasoning, {text: token_id for token_id, text in special.items()})
