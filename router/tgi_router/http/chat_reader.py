"""Reads a chat answer as it is generated: its reasoning, its text, the tools it calls."""

from collections.abc import Sequence
from typing import Protocol

from tgi_router.generation import EndEvent, Token
from tgi_router.text.answer_text import AnswerText
from tgi_router.text.pieces import ArgumentsDelta, CallStart, ContentDelta, ReasoningDelta

AnswerPiece = ContentDelta | ReasoningDelta | CallStart | ArgumentsDelta
"""A piece of the model's turn."""


class TextReader(Protocol):
    """Takes text in pieces and tells the pieces of an answer that have become certain."""

    def push(self, text: str) -> Sequence[AnswerPiece]:
        """Take the next piece."""

    def finish(self) -> Sequence[AnswerPiece]:
        """The text is complete: what was held back."""


class Splitter(TextReader, Protocol):
    """Tells reasoning apart from what follows it."""

    @property
    def inside(self) -> bool:
        """Whether the text is still reasoning."""


class ChatReader:
    """Turns a generation's tokens into the pieces of the model's turn.

    Args:
        text: what of the tokens is shown.
        splitter: tells reasoning apart; None where there is none.
        parser: finds tool calls in what is not reasoning; None where none can be.

    Attributes:
        reasoning_tokens: tokens spent on reasoning so far.
        called: whether a tool was called.
    """

    def __init__(self, text: AnswerText, splitter: Splitter | None, parser: TextReader | None) -> None:
        self.reasoning_tokens = 0
        self.called = False
        self._text = text
        self._splitter = splitter
        self._parser = parser

    def push(self, token: Token) -> Sequence[AnswerPiece]:
        """Take a token that is not the last."""
        text = self._text.push(token)
        if self._splitter is None and self._parser is None:
            return (ContentDelta(text),)
        return self._read(text)

    def finish(self, end: EndEvent) -> list[AnswerPiece]:
        """Take the last token."""
        parts = list(self._read(self._text.finish(end)))
        if self._splitter is not None:
            parts += self._parse(self._splitter.finish())
        if self._parser is not None:
            parts += self._note(self._parser.finish())
        return parts

    def _read(self, text: str) -> Sequence[AnswerPiece]:
        if self._splitter is None:
            return self._parse((ContentDelta(text),))
        if self._splitter.inside:
            self.reasoning_tokens += 1
        return self._parse(self._splitter.push(text))

    def _parse(self, parts: Sequence[AnswerPiece]) -> Sequence[AnswerPiece]:
        """Look for calls in the content among some parts."""
        if self._parser is None:
            return parts
        found: list[AnswerPiece] = []
        for part in parts:
            if isinstance(part, ContentDelta):
                found += self._note(self._parser.push(part.text))
            else:
                found.append(part)
        return found

    def _note(self, parts: Sequence[AnswerPiece]) -> Sequence[AnswerPiece]:
        self.called = self.called or any(isinstance(part, CallStart) for part in parts)
        return parts
