"""A grammar begins where the reasoning ends."""

import pytest

from support.grammar_tokens import ByteTokens
from tgi_common.grammar import Grammar, GrammarKind
from tgi_router.text.lark import as_lark
from tgi_router.text.reasoning import QWEN3
from tgi_router.text.reasoning_grammar import reasoning_grammar
from tgi_router.text.tools.formats import HERMES
from tgi_router.text.tools.grammar import Tool, optional_calls, required_calls

TEXT_ONLY = ByteTokens()
SPECIAL = ByteTokens(["<think>", "</think>", "<tool_call>", "</tool_call>"])

ANSWERS = [
    (Grammar(GrammarKind.JSON, '{"type": "object", "required": ["a"]}'), '{"a": "}"}', "{}"),
    (Grammar(GrammarKind.REGEX, r"\d+/[a-z]{2}"), "12/ab", "ab/12"),
    (Grammar(GrammarKind.LARK, 'start: "}" x // a comment\nx: /[0-9]+/ "{"'), "}7{", "7"),
]

vocabularies = pytest.mark.parametrize("tokens", [TEXT_ONLY, SPECIAL], ids=["as text", "as tokens"])


def accepted(grammar: Grammar, tokens: ByteTokens, texts: list[str], *, starts_inside: bool) -> list[str]:
    lark = reasoning_grammar(
        as_lark(grammar), QWEN3, starts_inside=starts_inside, special_tokens=tokens.special_tokens
    )
    assert tokens.fault(lark) == ""
    return [text for text in texts if tokens.accepts(lark, text)]


answers = pytest.mark.parametrize(
    ("grammar", "right", "wrong"), ANSWERS, ids=[answer[0].kind for answer in ANSWERS]
)


@answers
@vocabularies
def test_an_answer_may_begin_with_reasoning(
    grammar: Grammar, right: str, wrong: str, tokens: ByteTokens
) -> None:
    thought = f"<think>\nIs it {wrong}?\n\n\n</think>\n\n"
    texts = [right, wrong, thought + right, thought + wrong, thought]
    assert accepted(grammar, tokens, texts, starts_inside=False) == [right, thought + right]


@answers
@vocabularies
def test_in_an_open_section_the_answer_comes_behind_its_end(
    grammar: Grammar, right: str, wrong: str, tokens: ByteTokens
) -> None:
    thought = f"Is it {wrong}?\n</think>"
    texts = [right, thought + right, thought + wrong, "</think>" + right]
    assert accepted(grammar, tokens, texts, starts_inside=True) == [thought + right, "</think>" + right]


@vocabularies
def test_calls_of_tools_may_follow_reasoning(tokens: ByteTokens) -> None:
    special_tokens = tokens.special_tokens
    tools = [Tool("now", strict=True)]
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    thought = "<think>\nA <tool_calls> it is\n</think>\n\n"
    optional = optional_calls(HERMES, tools, parallel=True, special_tokens=special_tokens)
    assert optional is not None
    for grammar, texts in (
        (required_calls(HERMES, tools, parallel=True, special_tokens=special_tokens), [call, thought + call]),
        (optional, [call, thought + call, "Hi", thought + "Hi", thought + "Hi" + call]),
    ):
        lark = reasoning_grammar(grammar, QWEN3, starts_inside=False, special_tokens=special_tokens)
        assert tokens.fault(lark) == ""
        assert [text for text in texts if not tokens.accepts(lark, text)] == []
        assert not tokens.accepts(lark, thought + call.replace("now", "rm"))
