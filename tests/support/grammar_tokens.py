"""Grammars on a tokenizer of bytes and special tokens: what they accept, and what they would write."""

import random
from collections.abc import Sequence

from llguidance import LLMatcher, LLTokenizer
from llguidance._tokenizer import TokenizerWrapper

EOS_ID = 256


class ByteTokens:
    """256 bytes, the end of the sequence, and the given special tokens."""

    def __init__(self, special: Sequence[str] = ()) -> None:
        self.special_tokens = {text: EOS_ID + 1 + index for index, text in enumerate(special)}
        self.tokens = [bytes([byte]) for byte in range(256)] + [b"</s>", *(text.encode() for text in special)]
        self.eos_token_id = EOS_ID
        self.bos_token_id = None
        self.special_token_ids = list(range(EOS_ID, len(self.tokens)))
        self.tokenizer = LLTokenizer(TokenizerWrapper(self))

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which special tokens are written out."""
        for special, token_id in self.special_tokens.items():
            if special in text:
                before, _, behind = text.partition(special)
                return [*self.encode(before), token_id, *self.encode(behind)]
        return self(text)

    def fault(self, grammar: str) -> str:
        """Why a grammar does not compile; empty if it does."""
        return LLMatcher.validate_grammar(grammar, self.tokenizer)

    def accepts(self, grammar: str, text: str) -> bool:
        """Whether a model held to the grammar may write this text, and end there."""
        matcher = LLMatcher(self.tokenizer, grammar)
        ids = self.encode(text)
        if matcher.validate_tokens(ids) < len(ids):
            return False
        matcher.consume_tokens(ids)
        accepting: bool = matcher.is_accepting()
        return accepting

    def sample(self, grammar: str, source: random.Random, length: int = 2_000) -> str | None:
        """A text that the grammar may lead to, short of what it allows; None if it does not end."""
        matcher = LLMatcher(self.tokenizer, grammar)
        pieces: list[bytes] = []
        for _ in range(length):
            bias = matcher.compute_logit_bias()
            allowed = [token_id for token_id, allow in enumerate(bias) if allow]
            token_id = _draw(allowed, source)
            if token_id == EOS_ID:
                return b"".join(pieces).decode()
            matcher.consume_token(token_id)
            pieces.append(self.tokens[token_id])
            if matcher.is_stopped():
                return b"".join(pieces).decode()
        return None


def _draw(allowed: Sequence[int], source: random.Random) -> int:
    """One of them, more often one that ends something."""
    enders = [token_id for token_id in allowed if token_id >= EOS_ID or chr(token_id) in '"}]']
    return source.choice(enders if enders and source.random() < 0.3 else allowed)
