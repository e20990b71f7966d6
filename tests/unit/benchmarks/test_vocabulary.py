"""The tokenizer made without a corpus."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from benchmarks.vocabulary import SMALLEST_VOCABULARY, SPECIAL_TOKENS, WORDS, make_tokenizer

SIZE = 12_000


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(SIZE)


def test_it_knows_exactly_as_many_ids_as_asked_for(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size(with_added_tokens=True) == SIZE
    assert sorted(tokenizer.get_vocab().values()) == list(range(SIZE))


def test_every_id_can_be_decoded(tokenizer: Tokenizer) -> None:
    assert all(tokenizer.decode([index], skip_special_tokens=False) for index in range(SIZE))


def test_a_word_is_one_token_wherever_it_stands(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode(" ".join(WORDS)).ids) == len(WORDS)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_survives(tokenizer: Tokenizer, text: str) -> None:
    decoded = tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False)
    # A space is put before a text that does not begin with one, so that its first word is like all others.
    assert decoded in (text, f" {text}")


def test_special_tokens_come_first_and_are_never_added(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1]
    assert not {0, 1} & set(tokenizer.encode("baba dede").ids)


def test_the_smallest_vocabulary_still_holds_every_word() -> None:
    smallest = make_tokenizer(SMALLEST_VOCABULARY)
    assert len(smallest.encode(" ".join(WORDS)).ids) == len(WORDS)
    with pytest.raises(ValueError, match="too small"):
        make_tokenizer(SMALLEST_VOCABULARY - 1)
