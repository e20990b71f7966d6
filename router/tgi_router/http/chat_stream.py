"""A streamed chat answer: chunks as OpenAI sends them."""

from collections.abc import Iterable, Sequence

from msgspec import UNSET

from tgi_router.generation import EndEvent, FinishReason, Token, TokenEvent, ValidRequest
from tgi_router.http.errors import Problem, openai_body
from tgi_router.http.openai import Stamp, finish_reason, shown_text, usage
from tgi_router.http.sse import DONE, append_event
from tgi_router.schema.chat import ChatCompletionChunk, ChunkChoice, Delta, Logprobs, TokenLogprob, TopLogprob
from tgi_router.schema.numbers import shorten_f32
from tgi_router.schema.openai import Usage
from tgi_router.text.stops import StopFilter


class ChatRenderer:
    """Writes a generation's events as chat chunks: the role, a chunk for each token, the reason of the end.

    Args:
        stamp: what every chunk repeats.
        request: what is generated.
        with_logprobs: whether chunks carry log-probabilities.
        with_usage: whether the token counts follow in a last chunk.
    """

    def __init__(self, stamp: Stamp, request: ValidRequest, *, with_logprobs: bool, with_usage: bool) -> None:
        stops = request.stopping.stop_sequences
        self._input_length = request.input_length
        self._stops = StopFilter(stops) if stops else None
        self._with_logprobs = with_logprobs
        self._with_usage = with_usage
        self._usage: Usage | None = None
        # Filled anew for each token, so that a token costs no new objects but its text.
        self._delta = Delta()
        self._choice = ChunkChoice(0, self._delta)
        self._chunk = ChatCompletionChunk(
            id=stamp.id,
            object="chat.completion.chunk",
            created=stamp.created,
            model=stamp.model,
            system_fingerprint=stamp.system_fingerprint,
            choices=[self._choice],
            usage=None if with_usage else UNSET,
        )
        self._role_sent = False

    def render_token(self, event: TokenEvent, out: bytearray) -> None:
        """Append a token's chunk."""
        self._send_role(out)
        text = shown_text(event.token)
        if self._stops is not None:
            text = self._stops.push(text)
        self._send_text(text, event, out)

    def render_end(self, event: EndEvent, out: bytearray) -> None:
        """Append the last token's chunk, and the one that says why the answer ends."""
        self._send_role(out)
        text = shown_text(event.token)
        if self._stops is not None:
            text = self._stops.finish(text, stopped=event.finish_reason is FinishReason.STOP_SEQUENCE)
        if text or self._with_logprobs:
            self._send_text(text, event, out)
        self._delta.content = UNSET
        self._choice.logprobs = None
        self._choice.finish_reason = finish_reason(event.finish_reason)
        append_event(self._chunk, out)
        self._usage = usage(self._input_length, event.generated_tokens)

    def render_error(self, problem: Problem, out: bytearray) -> None:
        """Append an error as OpenAI's clients read it."""
        append_event(openai_body(problem), out)

    def append_ending(self, out: bytearray) -> None:
        """Append the token counts, if they were asked for and are known, and `[DONE]`."""
        if self._with_usage and self._usage is not None:
            self._chunk.choices = []
            self._chunk.usage = self._usage
            append_event(self._chunk, out)
        out += DONE

    def _send_role(self, out: bytearray) -> None:
        if not self._role_sent:
            self._role_sent = True
            self._delta.role, self._delta.content = "assistant", ""
            append_event(self._chunk, out)
            self._delta.role = UNSET

    def _send_text(self, text: str, event: TokenEvent | EndEvent, out: bytearray) -> None:
        self._delta.content = text
        if self._with_logprobs:
            self._choice.logprobs = logprobs([(event.token, event.top_tokens)])
        append_event(self._chunk, out)


def logprobs(tokens: Iterable[tuple[Token, Sequence[Token]]]) -> Logprobs:
    """Log-probabilities of tokens, each with the likeliest ones in its place."""
    return Logprobs(
        [
            TokenLogprob(
                token=token.text,
                logprob=shorten_f32(token.logprob),
                bytes=list(token.text.encode()),
                top_logprobs=[
                    TopLogprob(top.text, shorten_f32(top.logprob), list(top.text.encode())) for top in tops
                ],
            )
            for token, tops in tokens
        ]
    )
