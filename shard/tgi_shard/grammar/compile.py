"""Compiles grammars for one model's vocabulary."""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from llguidance import LLTokenizer

from tgi_common.grammar import Grammar, GrammarError
from tgi_shard.grammar.matcher import CompiledGrammar
from tgi_shard.text.tokenizer import ShardTokenizer, TokenizerError

# As many as TGI's shard keeps. One takes some hundred kB, and by its limits 50 MB at most.
KEPT_GRAMMARS = 32


class GrammarCompiler:
    """Compiles grammars, in any thread, and keeps those that were used last.

    Attributes:
        compile: the compiled grammar; raises GrammarError as `CompiledGrammar` does.
    """

    def __init__(self, vocabulary: LLTokenizer, kept: int = KEPT_GRAMMARS) -> None:
        self.compile: Callable[[Grammar], CompiledGrammar] = lru_cache(kept)(
            partial(CompiledGrammar, vocabulary)
        )


def load_vocabulary(tokenizer: ShardTokenizer, vocab_size: int, eos_ids: Iterable[int]) -> LLTokenizer:
    """The model's vocabulary as llguidance reads it. Takes up to a second, in which no other thread runs.

    Args:
        tokenizer: the model's.
        vocab_size: width of the logits; tokens that the tokenizer does not have are never allowed.
        eos_ids: the tokens that may follow a text that is complete.

    Raises:
        GrammarError: no grammar can be followed with this tokenizer, and why.
    """
    ends = sorted(token_id for token_id in eos_ids if token_id < vocab_size)
    if not ends:
        raise GrammarError("the model has no end-of-sequence token")
    try:
        size = max(vocab_size, tokenizer.highest_id() + 1)
        return LLTokenizer(tokenizer.to_json(), n_vocab=size, eos_token=ends)
    except (TokenizerError, ValueError) as error:
        raise GrammarError(f"llguidance cannot read the tokenizer: {error}") from None
