"""The prompts of a case: as long as it says, and alike only where it says."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks.cases import CASES, DEFAULT_CASES, Case
from benchmarks.prompts import PromptMaker
from benchmarks.vocabulary import make_tokenizer
from tgi_demo import MODEL_PATH

CASE = Case("some-c4", streams=4, requests=9, own_tokens=20, output_tokens=5)
SHARED = Case("shared-c4", streams=4, requests=9, own_tokens=7, output_tokens=5, shared_tokens=30)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make_tokenizer(9000).save(str(folder / "tokenizer.json"))
    return folder


def test_prompts_have_the_length_that_the_case_names(checkpoint: Path) -> None:
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    for case in (CASE, SHARED):
        work = PromptMaker(checkpoint, seed=1).work(case, number=1)
        assert [len(tokenizer.encode(prompt)) for prompt in work.prompts] == [
            case.prompt_tokens
        ] * case.requests
        assert (work.output_tokens, work.streams) == (case.output_tokens, case.streams)


def test_a_tokenizer_with_other_words_comes_close_from_below() -> None:
    tokenizer = Tokenizer.from_file(str(MODEL_PATH / "tokenizer.json"))
    case = CASES["short-c1"]
    for prompt in PromptMaker(MODEL_PATH, seed=1).work(case, number=1).prompts:
        assert 0.9 * case.prompt_tokens <= len(tokenizer.encode(prompt)) <= case.prompt_tokens


def test_no_two_prompts_are_alike_in_any_case_or_round(checkpoint: Path) -> None:
    maker = PromptMaker(checkpoint, seed=1)
    other = Case("other-c4", streams=4, requests=9, own_tokens=20, output_tokens=5)
    works = [maker.work(case, number) for case in (CASE, other) for number in (1, 2)]
    works += [maker.warmup(case, number) for case in (CASE, other) for number in (1, 2)]
    prompts = [prompt for work in works for prompt in work.prompts]
    assert len({tuple(prompt.split()[:2]) for prompt in prompts}) == len(prompts)


def test_shared_prompts_begin_alike_and_end_differently(checkpoint: Path) -> None:
    maker = PromptMaker(checkpoint, seed=1)
    prompts = [prompt.split() for prompt in maker.work(SHARED, number=1).prompts]
    assert len({tuple(words[:30]) for words in prompts}) == 1
    assert len({tuple(words[30:]) for words in prompts}) == SHARED.requests
    assert maker.warmup(SHARED, number=1).prompts[0].split()[:30] != prompts[0][:30]


def test_a_seed_and_a_round_always_give_the_same_prompts(checkpoint: Path) -> None:
    first = PromptMaker(checkpoint, seed=1).work(CASE, number=2)
    assert PromptMaker(checkpoint, seed=1).work(CASE, number=2) == first
    assert PromptMaker(checkpoint, seed=2).work(CASE, number=2) != first


def test_the_default_cases_are_the_work_that_peers_are_measured_with() -> None:
    for name in ("short-c1", "short-c8", "short-c32"):
        assert name in DEFAULT_CASES
        assert (CASES[name].prompt_tokens, CASES[name].output_tokens) == (100, 64)
    long, shared = CASES["long-c8"], CASES["shared-prefix-c8"]
    assert (long.prompt_tokens, long.shared_tokens, long.output_tokens) == (1000, 0, 32)
    assert (shared.prompt_tokens, shared.shared_tokens, shared.output_tokens) == (850, 800, 32)
