"""Compiling grammars, and where a request stands in one."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from llguidance import LLTokenizer
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from support.grammars import EOS_IDS, WIDTH, draw_text, json_grammar, lark_grammar, regex_grammar
from tgi_common.grammar import Grammar, GrammarError
from tgi_shard.grammar.compile import GrammarCompiler, load_vocabulary
from tgi_shard.grammar.masks import MaskWorker, TokenMasks
from tgi_shard.grammar.matcher import GrammarMatcher
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.text.tokenizer import ShardTokenizer, load_tokenizer

DRAW = SamplingParameters(do_sample=True, seed=1)


def allowed(*matchers: GrammarMatcher) -> list[set[int]]:
    """The tokens that each may go on with."""
    logits = torch.zeros(len(matchers), WIDTH)
    MaskWorker().begin(matchers, np.arange(len(matchers))).result().apply_(logits)
    return [set(row.isfinite().nonzero().flatten().tolist()) for row in logits]


def one_of(tokenizer: ShardTokenizer, characters: str) -> set[int]:
    return {tokenizer.encode(character, False)[0] for character in characters}


def exhaust(matcher: GrammarMatcher) -> None:
    """Go on at random for as long as llguidance's limits allow."""
    random = np.random.default_rng(0)
    while bits := matcher.state.compute_bitmask():
        if matcher.state.is_error():
            return
        tokens = np.flatnonzero(np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little"))
        matcher.state.consume_token(int(random.choice(tokens[tokens > max(EOS_IDS)])))


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (json_grammar("{"), "cannot be read"),
        (json_grammar("[]"), "cannot be read"),
        (json_grammar('{"not": {"type": "null"}}'), "not"),
        (json_grammar('{"type": "integer", "minimum": 2, "maximum": 1}'), "minimum"),
        (regex_grammar("a(b"), "unclosed group"),
        (lark_grammar("start: nothing"), "nothing"),
        (lark_grammar("start: <|no_such_token|>"), "no_such_token"),
        (lark_grammar("start: A\nA: /(.*a.{15})/ & /(.*b.{16})/ & ~/(.*c.{17})/"), "fuel"),
    ],
)
def test_what_does_not_compile_is_refused_with_the_reason(
    compiler: GrammarCompiler, grammar: Grammar, reason: str
) -> None:
    with pytest.raises(GrammarError, match=reason) as caught:
        compiler.compile(grammar)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_the_end_is_allowed_only_where_the_text_may_stop(
    compiler: GrammarCompiler, tokenizer: ShardTokenizer
) -> None:
    matcher = compiler.compile(regex_grammar("ab?")).start()
    [a], [b] = tokenizer.encode("a", False), tokenizer.encode("b", False)
    assert not EOS_IDS & allowed(matcher)[0]
    matcher.advance(a)
    assert allowed(matcher) == [{b, *EOS_IDS}]
    matcher.advance(b)
    assert allowed(matcher) == [set(EOS_IDS)]
    matcher.advance(1)
    assert allowed(matcher) == [set(EOS_IDS)]


def test_a_text_that_goes_on_is_where_one_that_never_stopped_is(
    compiler: GrammarCompiler, tokenizer: ShardTokenizer
) -> None:
    grammar = compiler.compile(json_grammar('{"type": "object", "minProperties": 2}'))
    ids = draw_text(grammar, tokenizer, 7, DRAW)
    continued = grammar.start()
    for count, token_id in enumerate(ids):
        again = grammar.start(ids[:count])
        assert allowed(continued) == allowed(again)
        continued.advance(token_id)


def test_a_text_that_does_not_match_cannot_go_on(
    compiler: GrammarCompiler, tokenizer: ShardTokenizer
) -> None:
    grammar = compiler.compile(regex_grammar("[0-9]+"))
    with pytest.raises(GrammarError, match="cannot be followed"):
        grammar.start(tokenizer.encode("12x", False))


def test_requests_with_one_grammar_do_not_see_each_other(
    compiler: GrammarCompiler, tokenizer: ShardTokenizer
) -> None:
    grammar = compiler.compile(regex_grammar("[a-c][x-z]"))
    first, second = grammar.start(), grammar.start()
    first.advance(tokenizer.encode("a", False)[0])
    assert allowed(first, second) == [one_of(tokenizer, "xyz"), *allowed(grammar.start())]


def test_what_one_request_used_up_another_gets_anew(compiler: GrammarCompiler) -> None:
    # The automaton grows with every token; how much matchers may find out about it together is bounded.
    grammar = compiler.compile(regex_grammar("((.*a.{200})|(.*b.{300}))*"))
    first = grammar.start()
    exhaust(first)
    assert first.state.is_error()
    second = grammar.start()
    assert len(allowed(second)[0]) > 100
    assert not second.state.is_error()


def test_only_so_many_grammars_are_kept(vocabulary: LLTokenizer) -> None:
    compiler = GrammarCompiler(vocabulary, kept=2)
    grammars = [regex_grammar(pattern) for pattern in ("a", "b", "c")]
    compiled = [weakref.ref(compiler.compile(grammar)) for grammar in grammars]
    gc.collect()
    assert [each() is None for each in compiled] == [True, False, False]
    assert compiler.compile(grammars[2]) is compiled[2]()


def test_tokens_that_the_tokenizer_lacks_are_never_allowed(
    compiler: GrammarCompiler, tokenizer: ShardTokenizer
) -> None:
    [anything] = allowed(compiler.compile(regex_grammar("(?s:.*)")).start())
    assert max(anything) <= tokenizer.highest_id() < WIDTH - 1


def test_logits_may_be_narrower_than_the_tokenizer(tokenizer: ShardTokenizer) -> None:
    compiler = GrammarCompiler(load_vocabulary(tokenizer, 1000, EOS_IDS))
    logits = torch.zeros(1, 1000)
    matcher = compiler.compile(regex_grammar("[a-z]")).start()
    MaskWorker().begin([matcher], np.array([0])).result().apply_(logits)
    assert logits.isfinite().sum() == 26


def test_no_end_of_sequence_token_means_no_grammars(tokenizer: ShardTokenizer) -> None:
    with pytest.raises(GrammarError, match="no end-of-sequence token"):
        load_vocabulary(tokenizer, WIDTH, [WIDTH])


def test_a_tokenizer_of_whole_words_is_refused_by_name(tmp_path: Path) -> None:
    words = Tokenizer(WordPiece({"[UNK]": 0, "word": 1}, unk_token="[UNK]"))
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(GrammarError, match="tokenizer"):
        load_vocabulary(load_tokenizer(tmp_path), 2, [0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [[1], [0, 2], [0, 1, 2]])
def test_a_mask_changes_no_other_row(dtype: torch.dtype, rows: list[int]) -> None:
    logits = torch.randn(3, 70).to(dtype)
    before = logits.clone()
    bits = np.zeros((len(rows), 3), dtype=np.int32)
    bits[:, 0], bits[:, 2] = -(2**31) | 5, 1 << 5
    TokenMasks(np.array(rows), bits).apply_(logits)
    for row in range(3):
        kept = [0, 2, 31, 69] if row in rows else list(range(70))
        assert torch.equal(logits[row, kept], before[row, kept])
        assert logits[row].isfinite().sum() == len(kept)
