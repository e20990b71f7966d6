"""Keeps the whitespace around calls out of an answer's text."""

MAX_HELD_CHARACTERS = 64
"""The longest whitespace that is held back: of more, the last part."""


class CallSpaceTrimmer:
    """Passes text on as it comes, except for whitespace that may be in front of a call or behind one.

    Text behind a call is joined to the text before it by the whitespace that stood before the call.
    """

    def __init__(self) -> None:
        self._space = ""
        self._behind_call = False
        self._any_shown = False

    def push(self, text: str) -> str:
        """Take more text; return what can be shown now."""
        if self._behind_call:
            text = text.lstrip()
            if not text:
                return ""
            self._behind_call = False
        text = self._space + text
        shown = max(len(text.rstrip()), len(text) - MAX_HELD_CHARACTERS)
        self._space = text[shown:]
        self._any_shown = self._any_shown or shown > 0
        return text[:shown]

    def call(self) -> None:
        """Here the answer has a call."""
        self._behind_call = True
        if not self._any_shown:
            self._space = ""

    def finish(self) -> str:
        """The answer has ended; return what was held back, if it is not in front of nothing but calls."""
        return "" if self._behind_call else self._space
