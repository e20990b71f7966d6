"""The grammars that requests of OpenAI's routes ask for, in all of their forms."""

from collections.abc import Callable, Iterator

from tgi_common.grammar import Grammar, GrammarError, GrammarKind
from tgi_router.http.chat_tools import ToolUse
from tgi_router.schema.openai import SamplingFields
from tgi_router.text.dialect import Dialect
from tgi_router.text.grammar_forms import (
    Written,
    read_guided_choice,
    read_guided_grammar,
    read_guided_json,
    read_guided_regex,
    read_response_format,
)
from tgi_router.text.lark import as_lark
from tgi_router.text.reasoning import ReasoningMarkers
from tgi_router.text.reasoning_grammar import reasoning_grammar
from tgi_router.text.tools.grammar import optional_calls, required_calls
from tgi_router.validation.refusal import refuse
from tgi_router.validation.request import WrittenGrammar

_READERS: dict[str, Callable[[object], Written | None]] = {
    "response_format": read_response_format,
    "guided_json": read_guided_json,
    "guided_regex": read_guided_regex,
    "guided_choice": read_guided_choice,
    "guided_grammar": read_guided_grammar,
}


def requested_grammar(body: SamplingFields) -> WrittenGrammar | None:
    """What the text must match, as far as the request says so itself.

    Raises:
        ValidationError: a form cannot be read, or there are several.
    """
    given = list(_given_grammars(body))
    if len(given) > 1:
        names = " and ".join(f"`{grammar.field}`" for grammar in given)
        refuse(f"{names} exclude each other", given[1].field)
    return given[0] if given else None


def _given_grammars(body: SamplingFields) -> Iterator[WrittenGrammar]:
    for field, read in _READERS.items():
        value = getattr(body, field)
        if value is None:
            continue
        try:
            written = read(value)
        except GrammarError as error:
            refuse(str(error), field)
        if written is not None:
            yield WrittenGrammar(*written, field)


def with_calls(grammar: WrittenGrammar | None, use: ToolUse, dialect: Dialect) -> WrittenGrammar | None:
    """The grammar of an answer that may, or must, call tools.

    Args:
        grammar: of an answer in text; None for any text.
        use: the tools.
        dialect: how the model calls them.

    Raises:
        ValidationError: the answer must call a tool and match a grammar of text at once.
    """
    own, tools, special = dialect.tool_format, use.callable, dialect.special_tokens
    if use.required:
        if grammar is not None:
            refuse(f"`{grammar.field}` cannot be kept to by an answer that must call a tool", grammar.field)
        lark = required_calls(own, tools, parallel=use.parallel, special_tokens=special)
        return WrittenGrammar(GrammarKind.LARK, lark, "tools")
    if grammar is None:
        free = optional_calls(own, tools, parallel=use.parallel, special_tokens=special)
        return None if free is None else WrittenGrammar(GrammarKind.LARK, free, "tools")
    calls = required_calls(own, tools, parallel=use.parallel, special_tokens=special)
    parts = f"start: text | calls\ntext: %lark {{\n{_lark(grammar)}\n}}\ncalls: %lark {{\n{calls}\n}}\n"
    return WrittenGrammar(GrammarKind.LARK, parts, grammar.field)


def behind_reasoning(
    grammar: WrittenGrammar, markers: ReasoningMarkers, dialect: Dialect, *, starts_inside: bool
) -> WrittenGrammar:
    """The grammar of an answer that may begin with reasoning, which is free.

    Raises:
        ValidationError: the grammar's schema is not JSON.
    """
    lark = reasoning_grammar(
        _lark(grammar), markers, starts_inside=starts_inside, special_tokens=dialect.special_tokens
    )
    return WrittenGrammar(GrammarKind.LARK, lark, grammar.field)


def _lark(grammar: WrittenGrammar) -> str:
    try:
        return as_lark(Grammar(grammar.kind, grammar.source))
    except GrammarError as error:
        refuse(f"`{grammar.field}` cannot be used: {error}", grammar.field)
