"""The text of a generation as its client sees it, token by token."""

from collections.abc import Container, Sequence

from tgi_router.generation import EndEvent, FinishReason, Token
from tgi_router.text.stops import StopFilter


class AnswerText:
    """Turns a generation's tokens into shown text: no special tokens, no stop string that ended it.

    Args:
        stops: stop strings to keep out; none where the client wants to see them.
        shown_specials: texts of special tokens that are shown all the same.
    """

    def __init__(self, stops: Sequence[str] = (), shown_specials: Container[str] = ()) -> None:
        self._stops = StopFilter(stops) if stops else None
        self._shown_specials = shown_specials
        self._plain_length = 0

    def push(self, token: Token) -> str:
        """Take a token that is not the last; return what can be shown now."""
        text = self._text_of(token)
        return text if self._stops is None else self._stops.push(text)

    def finish(self, end: EndEvent) -> str:
        """Take the last token; return the rest of the text."""
        if end.token.special:
            # The token that ends a text brings bytes that never became a character along.
            text = end.generated_text[self._plain_length :]
            if end.finish_reason is not FinishReason.EOS_TOKEN:
                text += self._text_of(end.token)
        else:
            text = end.token.text
        if self._stops is None:
            return text
        return self._stops.finish(text, stopped=end.finish_reason is FinishReason.STOP_SEQUENCE)

    def _text_of(self, token: Token) -> str:
        if token.special:
            return token.text if token.text in self._shown_specials else ""
        self._plain_length += len(token.text)
        return token.text


class Everything:
    """A container that has everything in it."""

    def __contains__(self, _: object) -> bool:
        return True


def whole_text(text: AnswerText, tokens: Sequence[Token], end: EndEvent) -> str:
    """The shown text of a finished generation, whose last token is that of `end`."""
    return "".join([*map(text.push, tokens[:-1]), text.finish(end)])
