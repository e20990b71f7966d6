"""A byte-level BPE tokenizer of any vocabulary size, made without a corpus.

Its tokens are all the prefixes of pronounceable words ("ba", "bake", "bakeli"), each with the space before
it. Every merge appends one letter to a token that starts with a space, so a word is merged strictly from left
to right and ends up as exactly one token, while any other text still falls back to bytes.
"""

from collections.abc import Iterator
from itertools import islice, product

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

BEGIN_OF_TEXT = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"
SPECIAL_TOKENS = (BEGIN_OF_TEXT, END_OF_TEXT)

CONSONANTS = "bdfghjklmnprstvz"
VOWELS = "aeiou"

_SPACE = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
"""How the byte-level alphabet spells the space."""

WORDS = tuple(map("".join, product(CONSONANTS, VOWELS, CONSONANTS, VOWELS)))
"""The words of two syllables; each is one token of every tokenizer made here."""

SMALLEST_VOCABULARY = (
    len(SPECIAL_TOKENS) + 256 + sum((80 ** (letters // 2)) * 16 ** (letters % 2) for letters in range(1, 5))
)
"""Special tokens, bytes, and the prefixes of one to four letters (16 consonants, 5 vowels) of `WORDS`."""


def make_tokenizer(vocabulary_size: int) -> Tokenizer:
    """Make a tokenizer that knows exactly `vocabulary_size` ids, all of them decodable.

    Ids 0 and 1 are `SPECIAL_TOKENS`; no special token is added to a text.

    Raises:
        ValueError: the vocabulary is too small for `WORDS`.
    """
    if vocabulary_size < SMALLEST_VOCABULARY:
        raise ValueError(f"a vocabulary of {vocabulary_size} is too small: at least {SMALLEST_VOCABULARY}")
    tokens = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = list(islice(_merges(), vocabulary_size - len(tokens)))
    tokens += [prefix + letter for prefix, letter in merges]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    # The space before the first word lets it be one token, as all others are.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return tokenizer


def _merges() -> Iterator[tuple[str, str]]:
    """Every word's prefixes as (shorter prefix, next letter): shortest first, without end."""
    shorter = [_SPACE]
    letters = CONSONANTS
    while True:
        longer = []
        for prefix in shorter:
            for letter in letters:
                yield prefix, letter
                longer.append(prefix + letter)
        shorter = longer
        letters = VOWELS if letters is CONSONANTS else CONSONANTS
