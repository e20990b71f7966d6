"""Requests that follow a grammar, among others that do not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from llguidance import LLParserLimits

from support.engine_driver import Driver, alone, make_request
from support.tiny_llama import EOS
from tgi_common.grammar import Grammar, GrammarKind
from tgi_shard.engine.engine import Engine
from tgi_shard.engine.request import EngineRequest
from tgi_shard.engine.stopping import FinishReason, StoppingCriteria
from tgi_shard.grammar import matcher
from tgi_shard.grammar.compile import GrammarCompiler, load_vocabulary
from tgi_shard.grammar.matcher import CompiledGrammar
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.text.tokenizer import ShardTokenizer, load_tokenizer

SCHEMA = '{"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3}'
WAYS = [
    SamplingParameters(),
    SamplingParameters(do_sample=True, seed=5),
    SamplingParameters(temperature=1.4, top_k=9, top_p=0.9, seed=6),
    SamplingParameters(repetition_penalty=1.4),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> ShardTokenizer:
    return load_tokenizer(tiny_folder)


@pytest.fixture(scope="module")
def eos_id(tokenizer: ShardTokenizer) -> int:
    return tokenizer.encode(EOS, False)[0]


@pytest.fixture
def compiler(tokenizer: ShardTokenizer, eos_id: int) -> GrammarCompiler:
    return GrammarCompiler(load_vocabulary(tokenizer, tokenizer.highest_id() + 1, [eos_id]))


@pytest.fixture
def colours(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(Grammar(GrammarKind.JSON, SCHEMA))


def constrained(
    number: int,
    grammar: CompiledGrammar,
    eos_id: int,
    sampling: SamplingParameters = WAYS[0],
    **fields: object,
) -> EngineRequest:
    stopping = StoppingCriteria(
        max_new_tokens=110, stop_sequences=(), ignore_eos=False, eos_ids=frozenset({eos_id})
    )
    return make_request(
        number,
        "choose some colours",
        new_tokens=110,
        first_block=1 + 12 * number,
        sampling=sampling,
        **{"stopping": stopping, "grammar": grammar, **fields},
    )


@pytest.mark.parametrize("sampling", WAYS)
def test_the_text_follows_the_grammar_and_ends_with_it(
    driver: Driver, colours: CompiledGrammar, eos_id: int, sampling: SamplingParameters
) -> None:
    driver.prefill(constrained(0, colours, eos_id, sampling))
    final = driver.finish().outputs[0][-1].final
    assert final is not None
    assert set(json.loads(final.text)) <= {"red", "green"}
    assert final.finish_reason is FinishReason.EOS_TOKEN
    assert driver.tokens(0)[-1] == eos_id


def test_neighbours_without_a_grammar_have_the_same_bits_as_alone(
    driver: Driver, colours: CompiledGrammar, eos_id: int
) -> None:
    free = [make_request(number, "free", sampling=WAYS[number % 4], first_block=100) for number in (4, 5)]
    free[1] = replace(free[1], blocks=tuple(block + 20 for block in free[1].blocks))
    expected = [alone(driver.engine, request) for request in free]
    driver.prefill(free[0], constrained(0, colours, eos_id), free[1])
    driver.finish()
    assert [driver.tokens(4), driver.tokens(5)] == expected


def test_two_grammars_side_by_side_are_not_mixed_up(
    driver: Driver, compiler: GrammarCompiler, colours: CompiledGrammar, eos_id: int
) -> None:
    digits = compiler.compile(Grammar(GrammarKind.REGEX, "[0-9]{5}"))
    driver.prefill(constrained(0, colours, eos_id), constrained(1, digits, eos_id))
    driver.decode()
    driver.prefill(constrained(2, digits, eos_id, WAYS[1]), batch_id=2)
    driver.finish()
    texts = [final.text for number in range(3) if (final := driver.outputs[number][-1].final)]
    assert json.loads(texts[0])
    assert [len(text) == 5 and text.isdigit() for text in texts[1:]] == [True, True]


def test_a_prompt_in_chunks_needs_no_mask_until_its_end(
    driver: Driver, colours: CompiledGrammar, eos_id: int
) -> None:
    whole = alone(driver.engine, constrained(0, colours, eos_id))
    driver.prefill(constrained(1, colours, eos_id, chunk_length=4))
    assert driver.finish().tokens(1) == whole


def test_log_probabilities_and_top_tokens_are_those_among_allowed_tokens(
    driver: Driver, compiler: GrammarCompiler, eos_id: int
) -> None:
    digits = compiler.compile(Grammar(GrammarKind.REGEX, "7[0-9]"))
    driver.prefill(constrained(0, digits, eos_id, WAYS[3], top_n_tokens=20))
    outputs = driver.finish().outputs[0]
    assert outputs[0].logprob == 0
    counts = [len(output.top_tokens.ids) for output in outputs if output.top_tokens]
    assert counts == [1, 10, 1]


def test_a_step_that_fails_does_not_advance_the_grammar(
    engine: Engine, colours: CompiledGrammar, eos_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = alone(engine, constrained(0, colours, eos_id))
    driver = Driver(engine)
    driver.prefill(constrained(0, colours, eos_id))

    def fail(*arguments: object) -> torch.Tensor:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(engine._model, "forward", fail)
        driver.prefill(constrained(1, colours, eos_id), batch_id=1)
    assert driver.failures == {1: "RuntimeError: no memory"}
    assert driver.finish().tokens(0) == expected


def test_a_grammar_that_costs_too_much_on_the_way_fails_its_request_alone(
    driver: Driver,
    compiler: GrammarCompiler,
    colours: CompiledGrammar,
    eos_id: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = alone(driver.engine, constrained(0, colours, eos_id))
    tight = LLParserLimits(step_lexer_fuel=200, precompute_large_lexemes=False, verbose_errors=False)
    monkeypatch.setattr(matcher, "parser_limits", lambda: tight)
    costly = compiler.compile(Grammar(GrammarKind.REGEX, r"[a-z](\w{1,50}x?){40,300}"))
    driver.prefill(constrained(0, colours, eos_id), constrained(1, costly, eos_id))
    driver.finish()
    assert driver.tokens(0) == expected
    assert "the grammar cannot be followed" in driver.failures[1]
    assert len(driver.failures) == 1
