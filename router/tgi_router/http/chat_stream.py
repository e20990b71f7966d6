"""A streamed chat answer: chunks as OpenAI sends them."""

from collections.abc import Sequence

from msgspec import UNSET

from tgi_router.generation import EndEvent, PrefillEvent, TokenEvent, ValidRequest
from tgi_router.http.chat_logprobs import logprobs
from tgi_router.http.chat_plan import ChatPlan
from tgi_router.http.chat_reader import AnswerPiece
from tgi_router.http.errors import Problem, openai_body
from tgi_router.http.openai import Stamp, TokenCounts
from tgi_router.http.sse import DONE, append_event
from tgi_router.schema.chat import ChatCompletionChunk, ChunkChoice, Delta, FunctionDelta, ToolCallDelta
from tgi_router.text.pieces import ArgumentsDelta, CallStart, ContentDelta, ReasoningDelta


class ChatStream:
    """What the choices of one streamed response have in common.

    Args:
        stamp: what every chunk repeats.
        plan: how answers are read and shown.
        with_usage: whether the token counts follow in a last chunk.
    """

    def __init__(self, stamp: Stamp, plan: ChatPlan, *, with_usage: bool) -> None:
        self.stamp = stamp
        self.plan = plan
        self.with_usage = with_usage
        self.counts = TokenCounts()

    def chunk(self, choices: list[ChunkChoice]) -> ChatCompletionChunk:
        """A chunk with these choices."""
        return ChatCompletionChunk(
            id=self.stamp.id,
            object="chat.completion.chunk",
            created=self.stamp.created,
            model=self.stamp.model,
            system_fingerprint=self.stamp.system_fingerprint,
            choices=choices,
            usage=None if self.with_usage else UNSET,
        )

    def append_ending(self, out: bytearray) -> None:
        """Append the token counts, if they were asked for and are known, and `[DONE]`."""
        if self.with_usage and self.counts.generated:
            last = self.chunk([])
            last.usage = self.counts.usage()
            append_event(last, out)
        out += DONE


class ChatRenderer:
    """Writes one choice's events as chunks: the role, the parts of the answer, the reason of the end.

    Args:
        stream: what it shares with the other choices.
        request: what is generated.
        index: its place among the choices.
    """

    def __init__(self, stream: ChatStream, request: ValidRequest, index: int) -> None:
        self._stream = stream
        self._request = request
        self._with_logprobs = stream.plan.with_logprobs
        self._reader = stream.plan.reader(request)
        # Filled anew for each token, so that a token costs few new objects beside its text.
        self._choice = ChunkChoice(index, Delta())
        self._chunk = stream.chunk([self._choice])
        self._role_sent = False

    def render_prefill(self, event: PrefillEvent, out: bytearray) -> None:
        """Append nothing: chats do not tell the prompt."""

    def render_token(self, event: TokenEvent, out: bytearray) -> None:
        """Append the chunks for a token: usually one, more or none while a tool call is read."""
        if not self._role_sent:
            self._send_role(out)
        self._send_parts(self._reader.push(event.token), event, out)

    def render_end(self, event: EndEvent, out: bytearray) -> None:
        """Append the last token's chunks, and the one that says why the answer ends."""
        if not self._role_sent:
            self._send_role(out)
        reader = self._reader
        parts = [
            part for part in reader.finish(event) if not (isinstance(part, ContentDelta) and not part.text)
        ]
        self._send_parts(parts, event, out)
        self._choice.finish_reason = self._stream.plan.finish_reason(event, called=reader.called)
        self._send(Delta(), out)
        self._stream.counts.add(self._request, event, self._choice.index, reader.reasoning_tokens)

    def render_error(self, problem: Problem, out: bytearray) -> None:
        """Append an error as OpenAI's clients read it."""
        append_event(openai_body(problem), out)

    def _send_role(self, out: bytearray) -> None:
        self._role_sent = True
        self._send(Delta(role="assistant", content=""), out)

    def _send_parts(self, parts: Sequence[AnswerPiece], event: TokenEvent | EndEvent, out: bytearray) -> None:
        """Append a chunk for each part; the first has the token's log-probabilities."""
        if self._with_logprobs:
            self._choice.logprobs = logprobs([(event.token, event.top_tokens)])
            parts = parts or (ContentDelta(""),)
        for part in parts:
            self._send(part_delta(part), out)
            self._choice.logprobs = None

    def _send(self, delta: Delta, out: bytearray) -> None:
        self._choice.delta = delta
        append_event(self._chunk, out)


def part_delta(part: AnswerPiece) -> Delta:
    """A part of an answer as what a chunk adds to it."""
    match part:
        case ContentDelta(text):
            return Delta(content=text)
        case ReasoningDelta(text):
            return Delta(reasoning_content=text, reasoning=text)
        case CallStart(index, call_id, name):
            start = ToolCallDelta(index, call_id, "function", FunctionDelta(name, ""))
            return Delta(tool_calls=[start])
        case ArgumentsDelta(index, text):
            return Delta(tool_calls=[ToolCallDelta(index, function=FunctionDelta(arguments=text))])
