"""Text as it grows, token by token, without ever giving out half a character."""

from collections.abc import Sequence

from tgi_shard.text.tokenizer import ShardTokenizer

# What decoding shows in place of bytes that are no character, or not yet one.
_REPLACEMENT = "\ufffd"
# A character has up to four bytes and a token at least one: more tokens than this are not its beginning.
_LONGEST_BEGINNING = 3
# Tokens decoded anew with each token. Any that yield text would do, since decoders look at neighbours only.
_LONGEST_WINDOW = 6
_LONGEST_UNFINISHED_WINDOW = 32
# How much of the prompt is decoded to begin with: more where less would begin inside a character.
_PROMPT_TAILS = (6, 12, 24)


class IncrementalDetokenizer:
    """The text of one request's output.

    A token's text depends on its neighbours (leading spaces, characters of several tokens), so it is found by
    decoding a window of the last tokens and taking what lies beyond the text already known, as TGI's
    `decode_token` does (server models/model.py). While the window's text ends in U+FFFD, which may be the
    beginning of a character, that end is held back, until a character is complete or can no longer be.
    """

    __slots__ = ("_generated", "_held", "_known", "_last_start", "_prompt_tail", "_tokenizer", "_window")

    def __init__(self, tokenizer: ShardTokenizer, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._generated: list[int] = []
        for length in _PROMPT_TAILS:
            self._prompt_tail = list(prompt_ids[-length:])
            self._known = self._decode(self._prompt_tail)
            if self._known and _REPLACEMENT not in self._known:
                break
        self._window = list(self._prompt_tail)
        self._last_start = 0  # where in the window the tokens of the last complete text begin
        self._held = 0  # tokens that brought no text since the last one that did

    def push(self, token_id: int) -> str:
        """Take the next token; the text, special tokens' included, that is final with it: possibly none."""
        self._generated.append(token_id)
        window = self._window
        window.append(token_id)
        text = self._decode(window)
        if text.endswith(_REPLACEMENT):
            return self._push_unfinished(text)
        new = _beyond(self._known, text)
        self._known = text
        self._held = 0
        if new:
            if len(window) > _LONGEST_WINDOW:
                self._window = window[self._last_start :]
                self._known = self._decode(self._window)
            self._last_start = len(self._window)
        elif len(window) > _LONGEST_UNFINISHED_WINDOW:
            window.pop()  # one of many tokens that have no text
        return new

    def flush(self) -> str:
        """What is still held back, at the end of a generation."""
        text = self._decode(self._window)
        held = _beyond(self._known, text)
        self._known = text
        return held

    def final_text(self) -> str:
        """The whole output without special tokens, ending in U+FFFD if its last character is incomplete."""
        tokenizer, tail = self._tokenizer, self._prompt_tail
        known = tokenizer.decode(tail, skip_special_tokens=True)
        return _beyond(known, tokenizer.decode(tail + self._generated, skip_special_tokens=True))

    def _push_unfinished(self, text: str) -> str:
        """Give out what precedes a possible beginning of a character at the end of the window's text."""
        self._held += 1
        final = text.rstrip(_REPLACEMENT)
        if len(final) > len(self._known):
            self._held = 1
        elif self._held > _LONGEST_BEGINNING:
            final = text[:-1]  # these bytes are no character; the last of them may begin one
        else:
            return ""
        new = _beyond(self._known, final)
        self._known = final
        if len(self._window) > _LONGEST_UNFINISHED_WINDOW:
            new += self._shorten(held=text[len(final) :])
        return new

    def _shorten(self, held: str) -> str:
        """Shorten a window that ends in `held`; what must be given out because the shorter one lacks it."""
        self._window = self._window[-_LONGEST_BEGINNING - 1 :]
        self._last_start = 0
        text = self._decode(self._window)
        self._known = text.removesuffix(held)
        return "" if text.endswith(held) else held

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)


def _beyond(known: str, text: str) -> str:
    """The part of `text` that continues `known`.

    Where `known` ended inside a character that `text` completes, as after a prompt cut there, the part begins
    with that character.
    """
    if text.startswith(known):
        return text[len(known) :]
    return text[len(known.rstrip(_REPLACEMENT)) :]
