"""The router's tokenizer: counts and produces a prompt's tokens, so that the shards need not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from tokenizers import Tokenizer

from tgi_router.text.convert import ConversionError, convert_tokenizer

TOKENIZER_FILE = "tokenizer.json"


class TokenizerError(Exception):
    """The model has no tokenizer that the router can use. The message is one line for the user."""


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """A token and the bytes of the text it stands for; special tokens that were added stand for none."""

    id: int
    text: str
    start: int
    stop: int


class PromptTokenizer:
    """A model's tokenizer. Its methods let go of the GIL and may be called from any thread.

    Attributes:
        vocab_size: all token ids lie below it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        # A file may ask for padding or truncation; how long a prompt is, is what must be found out here.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        # Ids may have gaps, so the count of tokens would not do.
        self.vocab_size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    @classmethod
    def load(cls, folder: Path, *, trust_remote_code: bool = False) -> "PromptTokenizer":
        """Read tokenizer.json, or convert the model's older tokenizer files to it.

        Raises:
            TokenizerError: the file is invalid, or there is none and none can be made.
        """
        path = folder / TOKENIZER_FILE
        if path.is_file():
            return cls(_parse(path.read_bytes(), f"{path} is not a valid tokenizer"))
        try:
            converted = convert_tokenizer(folder, trust_remote_code=trust_remote_code)
        except ConversionError as error:
            raise TokenizerError(f"{folder} has no {TOKENIZER_FILE}, and none can be made: {error}") from None
        return cls(_parse(converted, f"the tokenizer made from {folder} is not valid"))

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text."""
        # The batch call is the one that releases the GIL, and `fast` the one that tracks no offsets.
        [encoding] = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones included."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text

    def encode_with_spans(self, text: str, *, add_special_tokens: bool) -> Iterator[TokenSpan]:
        """The tokens of a text with their places in it, counted in UTF-8 bytes as TGI does.

        One at a time: the longest body has millions, and so many objects at once hold up all threads.
        """
        [encoding] = self._tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)
        byte_at = [0, *accumulate(len(character.encode()) for character in text)]
        for token_id, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            yield TokenSpan(token_id, text[start:stop], byte_at[start], byte_at[stop])

    def special_tokens(self) -> dict[int, str]:
        """The tokens that llguidance takes for special: added ones marked so, or written `<…>`."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {
            token_id: token.content
            for token_id, token in added.items()
            if token.special or (token.content.startswith("<") and token.content.endswith(">"))
        }

    @property
    def size(self) -> int:
        """Number of tokens."""
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size


def _parse(content: bytes, fault: str) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise TokenizerError(f"{fault}: {error}") from None
