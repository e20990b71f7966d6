"""What a chat request asks of its answers, checked and in one piece."""

from collections.abc import Callable, Container
from dataclasses import dataclass

from tgi_router.generation import EndEvent, FinishReason, ValidRequest
from tgi_router.http.chat_reader import ChatReader, Splitter, TextReader
from tgi_router.text.answer_text import AnswerText


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """How answers are read and shown.

    Attributes:
        choices: answers to the conversation.
        with_logprobs: whether their log-probabilities are told.
        shows_stops: whether the stop string that ended a text is part of it.
        shown_specials: texts of special tokens that are shown, or read as markers.
        splitter: makes what tells reasoning apart; None where there is none.
        parser: makes what finds tool calls; None where none can be.
    """

    choices: int
    with_logprobs: bool
    shows_stops: bool
    shown_specials: Container[str]
    splitter: Callable[[], Splitter] | None
    parser: Callable[[], TextReader] | None

    def reader(self, request: ValidRequest) -> ChatReader:
        """What reads one answer."""
        stops = () if self.shows_stops else request.stopping.stop_sequences
        return ChatReader(
            AnswerText(stops, self.shown_specials),
            self.splitter() if self.splitter else None,
            self.parser() if self.parser else None,
        )

    def finish_reason(self, end: EndEvent, *, called: bool) -> str:
        """OpenAI's word for why an answer ended: one that was cut is not a call to be made."""
        if end.finish_reason is FinishReason.LENGTH:
            return "length"
        return "tool_calls" if called else "stop"
