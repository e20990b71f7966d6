"""When a generation ends."""

from dataclasses import dataclass
from enum import Enum, auto


class FinishReason(Enum):
    """Why a generation ended."""

    LENGTH = auto()
    EOS_TOKEN = auto()
    STOP_SEQUENCE = auto()


@dataclass(frozen=True, slots=True)
class StoppingCriteria:
    """When to end one request.

    Attributes:
        max_new_tokens: at least 1.
        stop_sequences: texts after which to end; none of them empty.
        ignore_eos: go on after an end-of-sequence token.
        eos_ids: the end-of-sequence tokens.
        stop_ids: more tokens that end it as those do, also where those are ignored.
        min_new_tokens: no token and no stop sequence ends it before so many tokens.

    Raises:
        ValueError: a limit below 1, or an empty stop sequence.
    """

    max_new_tokens: int
    stop_sequences: tuple[str, ...]
    ignore_eos: bool
    eos_ids: frozenset[int]
    stop_ids: frozenset[int] = frozenset()
    min_new_tokens: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if "" in self.stop_sequences:
            raise ValueError("a stop sequence is empty; it must have at least one character")

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end the text."""
        return self.stop_ids if self.ignore_eos else self.stop_ids | self.eos_ids


class StopChecker:
    """Watches the tokens and the text of one request.

    A stop sequence is found wherever it occurs in the generated text, special tokens' text included, also
    across tokens and with more text after it. Of the text so far only as much is kept as a stop sequence can
    begin in.
    """

    __slots__ = ("_criteria", "_end_ids", "_generated", "_keep", "_tail")

    def __init__(self, criteria: StoppingCriteria) -> None:
        self._criteria = criteria
        self._end_ids = criteria.end_ids
        self._generated = 0
        self._tail = ""
        self._keep = max(map(len, criteria.stop_sequences), default=1) - 1

    def push(self, token_id: int, text: str) -> FinishReason | None:
        """Take the next token and the text that has become final with it; why to end, or None to go on.

        An end-of-sequence token ends as such even when it is the last one allowed, and a stop sequence
        completed by the last token counts as found; TGI reports both as a length.
        """
        self._generated += 1
        enough = self._generated >= self._criteria.min_new_tokens
        if enough and token_id in self._end_ids:
            return FinishReason.EOS_TOKEN
        if self._criteria.stop_sequences and self._finds_stop_sequence(text) and enough:
            return FinishReason.STOP_SEQUENCE
        if self._generated >= self._criteria.max_new_tokens:
            return FinishReason.LENGTH
        return None

    def _finds_stop_sequence(self, text: str) -> bool:
        searched = self._tail + text
        self._tail = searched[max(len(searched) - self._keep, 0) :]
        return any(stop in searched for stop in self._criteria.stop_sequences)
