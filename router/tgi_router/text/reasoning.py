"""Tells what a model thinks before it answers from the answer, while both are streaming."""

from collections.abc import Callable
from dataclasses import dataclass

from tgi_router.text.markers import overlap
from tgi_router.text.pieces import ContentDelta, ReasoningDelta, ReasoningPiece

NEWLINES = "\r\n"

MAX_HELD_NEWLINES = 64
"""The longest run of newlines before a marker that is kept out of the text."""


@dataclass(frozen=True, slots=True)
class ReasoningMarkers:
    """What stands around a model's reasoning, at the very beginning of its answer.

    Attributes:
        implied: the model reasons even where nothing opens the section: all before `end` is reasoning.
    """

    name: str
    begin: str
    end: str
    implied: bool = False

    def opened_by(self, prompt: str) -> bool:
        """Whether an answer to this prompt starts inside the section: templates often open it."""
        prompt = prompt.rstrip()
        return prompt.endswith(self.begin) or (self.implied and not prompt.endswith(self.end))


DEEPSEEK_R1 = ReasoningMarkers("deepseek_r1", "<think>", "</think>", implied=True)
QWEN3 = ReasoningMarkers("qwen3", "<think>", "</think>")
MISTRAL_THINK = ReasoningMarkers("mistral", "[THINK]", "[/THINK]")

_MARKERS = {markers.name: markers for markers in (DEEPSEEK_R1, QWEN3, MISTRAL_THINK)}

REASONING_NAMES = tuple(_MARKERS)
"""The names that an option may give, as vLLM and SGLang have them."""


class UnknownReasoningError(ValueError):
    """No markers have the name that was asked for. The message is one line for the user."""


def choose_reasoning(option: str | None, template: str | None) -> ReasoningMarkers | None:
    """The markers of a model's reasoning: the option's, or those in its chat template; None without any.

    A template that only knows the end (it drops old reasoning) belongs to a model that always reasons.

    Raises:
        UnknownReasoningError: the option is not in `REASONING_NAMES`.
    """
    if option is not None:
        if option not in _MARKERS:
            raise UnknownReasoningError(
                f"unknown reasoning format {option!r}: must be one of {', '.join(REASONING_NAMES)}"
            )
        return _MARKERS[option]
    template = template or ""
    for markers in (QWEN3, MISTRAL_THINK):
        if markers.begin in template:
            return markers
    return DEEPSEEK_R1 if DEEPSEEK_R1.end in template else None


class ReasoningSplitter:
    """Reads one answer. The pieces say the same, however the text was cut.

    Newlines around the markers are dropped. A section that is never closed is all reasoning.

    Args:
        markers: what stands around the reasoning.
        starts_inside: the section is open already: `markers.opened_by` tells that of a prompt.
    """

    def __init__(self, markers: ReasoningMarkers, *, starts_inside: bool) -> None:
        self._markers = markers
        self._held = ""
        self._read: Callable[[str], list[ReasoningPiece]] = (
            self._read_repeated if starts_inside else self._read_start
        )

    @property
    def inside(self) -> bool:
        """Whether the section is open: what comes next is reasoning, or ends it."""
        return self._read in (self._read_repeated, self._read_opened, self._read_inside)

    def push(self, text: str) -> list[ReasoningPiece]:
        """Take more of the answer; return what is known from it."""
        text, self._held = self._held + text, ""
        return self._read(text)

    def finish(self) -> list[ReasoningPiece]:
        """The answer has ended; return what was held back."""
        text, self._held = self._held, ""
        return _reasoning(text.rstrip(NEWLINES)) if self.inside else _content(text)

    # Each reader takes all of `text` or hands the rest to the next one; what it cannot tell yet, it holds.

    def _read_start(self, text: str) -> list[ReasoningPiece]:
        """In front of the section, if there is one."""
        begin = self._markers.begin
        seen = text.lstrip()
        if len(text) - len(seen) <= MAX_HELD_NEWLINES:
            if seen.startswith(begin):
                return self._read_on(self._read_opened, seen.removeprefix(begin))
            if begin.startswith(seen):
                self._held = text
                return []
        return self._read_on(self._read_content, text)

    def _read_repeated(self, text: str) -> list[ReasoningPiece]:
        """In a section that the prompt has opened: models repeat the marker nevertheless."""
        begin = self._markers.begin
        text = text.lstrip(NEWLINES)
        if text != begin and begin.startswith(text):
            self._held = text
            return []
        return self._read_on(self._read_opened, text.removeprefix(begin))

    def _read_opened(self, text: str) -> list[ReasoningPiece]:
        """In front of the reasoning."""
        text = text.lstrip(NEWLINES)
        return self._read_on(self._read_inside, text) if text else []

    def _read_inside(self, text: str) -> list[ReasoningPiece]:
        end = self._markers.end
        place = text.find(end)
        stop = place if place >= 0 else len(text) - overlap(text, end)
        shown = max(len(text[:stop].rstrip(NEWLINES)), stop - MAX_HELD_NEWLINES)
        reasoning = _reasoning(text[:shown])
        if place < 0:
            self._held = text[shown:]
            return reasoning
        return reasoning + self._read_on(self._read_closed, text[place + len(end) :])

    def _read_closed(self, text: str) -> list[ReasoningPiece]:
        """In front of the answer."""
        text = text.lstrip(NEWLINES)
        return self._read_on(self._read_content, text) if text else []

    def _read_content(self, text: str) -> list[ReasoningPiece]:
        return _content(text)

    def _read_on(self, reader: Callable[[str], list[ReasoningPiece]], text: str) -> list[ReasoningPiece]:
        self._read = reader
        return reader(text)


def _reasoning(text: str) -> list[ReasoningPiece]:
    return [ReasoningDelta(text)] if text else []


def _content(text: str) -> list[ReasoningPiece]:
    return [ContentDelta(text)] if text else []
