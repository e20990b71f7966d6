"""A vocabulary of single bytes and a model's special tokens, to try grammars with.

A model's whole vocabulary would take llguidance up to a second to read, in which the event loop stands still,
and a hundred megabytes. Whether a text matches a grammar does not depend on how it is cut into tokens.
"""

from collections.abc import Mapping

from llguidance import LLTokenizer, TokenizerWrapper


class _ByteTokenizer:
    """What llguidance asks of a tokenizer that is not a file.

    Each byte is a token, in the first places that special tokens leave; behind all is an end of text.
    """

    def __init__(self, special: Mapping[int, str], size: int) -> None:
        size = max(size, max(special, default=0) + 1, 256 + len(special))
        free = (token_id for token_id in range(size) if token_id not in special)
        self._ids = [next(free) for _ in range(256)]
        self.tokens = [b""] * size + [b"</end>"]
        for byte, token_id in enumerate(self._ids):
            self.tokens[token_id] = bytes([byte])
        for token_id, text in special.items():
            self.tokens[token_id] = text.encode()
        self.eos_token_id = size
        self.bos_token_id: int | None = None
        self.special_token_ids = [*special, size]

    def __call__(self, text: bytes) -> list[int]:
        return [self._ids[byte] for byte in text]


def byte_vocabulary(special: Mapping[int, str], size: int) -> LLTokenizer:
    """Bytes and special tokens.

    Args:
        special: the special tokens that a grammar may name, by id.
        size: number of tokens of the model's tokenizer.
    """
    return LLTokenizer(TokenizerWrapper(_ByteTokenizer(special, size)))
