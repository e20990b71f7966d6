"""Keeps matched stop strings out of a streamed answer, as OpenAI's routes promise."""

from collections.abc import Sequence

from tgi_router.text.markers import overlap


class StopFilter:
    """Passes text on as it comes, holding back an end that may turn out to be the start of a stop string.

    The shard decides when a generation stops; this only decides what of its text is shown.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> str:
        """Take the next piece; return what can be shown now."""
        text = self._held + text
        keep = max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self, text: str, *, stopped: bool) -> str:
        """Take the last piece; return the rest, without the stop string if one ended the generation."""
        text, self._held = self._held + text, ""
        return cut_stop(text, self._stops) if stopped else text


def cut_stop(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of the stop strings in it."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
