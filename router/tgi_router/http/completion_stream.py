"""Streamed completions: a chunk for each token of each choice."""

from msgspec import UNSET

from tgi_router.generation import EndEvent, FinishReason, PrefillEvent, TokenEvent, ValidRequest
from tgi_router.http.completion_logprobs import LogprobWriter
from tgi_router.http.completion_plan import CompletionPlan
from tgi_router.http.errors import Problem, openai_body
from tgi_router.http.openai import Stamp, TokenCounts, finish_reason
from tgi_router.http.sse import DONE, append_event
from tgi_router.schema.completions import Completion, CompletionChoice


class CompletionStream:
    """What the choices of one streamed response have in common.

    Args:
        stamp: what every chunk repeats.
        plan: how texts are shown.
        with_usage: whether the token counts follow in a last chunk.
    """

    def __init__(self, stamp: Stamp, plan: CompletionPlan, *, with_usage: bool) -> None:
        self.stamp = stamp
        self.plan = plan
        self.with_usage = with_usage
        self.counts = TokenCounts()
        self._renderers = 0

    def renderer(self, request: ValidRequest, choice: int) -> "CompletionRenderer":
        """What writes the next choice, `choice` being its place among those of its prompt."""
        self._renderers += 1
        return CompletionRenderer(self, request, self._renderers - 1, choice)

    def chunk(self, choices: list[CompletionChoice]) -> Completion:
        """A chunk with these choices."""
        return Completion(
            id=self.stamp.id,
            object="text_completion",
            created=self.stamp.created,
            model=self.stamp.model,
            system_fingerprint=self.stamp.system_fingerprint,
            choices=choices,
            usage=None if self.with_usage else UNSET,
        )

    def append_ending(self, out: bytearray) -> None:
        """Append the token counts, if they were asked for, and `[DONE]`."""
        if self.with_usage:
            last = self.chunk([])
            last.usage = self.counts.usage()
            append_event(last, out)
        out += DONE


class CompletionRenderer:
    """Writes one choice's events as chunks, one for each token; where the prompt is echoed, that comes first.

    Args:
        stream: what it shares with the other choices.
        request: what is generated.
        index: its place in the response.
        choice: its place among the choices of its prompt.
    """

    def __init__(self, stream: CompletionStream, request: ValidRequest, index: int, choice: int) -> None:
        plan = stream.plan
        self._stream = stream
        self._request = request
        self._place = choice
        self._text = plan.answer_text(request)
        self._logprobs = (
            None if plan.top_logprobs is None else LogprobWriter(with_top_tokens=plan.top_logprobs > 0)
        )
        self._prompt_due = plan.echo
        # Filled anew for each token, so that a token costs no new objects but its text.
        self._choice = CompletionChoice(index, "")
        self._chunk = stream.chunk([self._choice])

    def render_prefill(self, event: PrefillEvent, out: bytearray) -> None:
        """Append the prompt's chunk, with its log-probabilities."""
        if self._logprobs is not None:
            self._logprobs.add_prompt(event)
        self._send_prompt(out)

    def render_token(self, event: TokenEvent, out: bytearray) -> None:
        """Append a token's chunk."""
        if self._prompt_due:
            self._send_prompt(out)
        text = self._text.push(event.token)
        if self._logprobs is not None:
            self._logprobs.add(event.token, event.top_tokens)
        self._send(text, out)

    def render_end(self, event: EndEvent, out: bytearray) -> None:
        """Append the last token's chunk, which says why the text ends."""
        if self._prompt_due:
            self._send_prompt(out)
        text, reason = self._text.finish(event), event.finish_reason
        counts = self._stream.counts
        counts.add(self._request, event, self._place)
        if self._stream.plan.without_answer:
            text, reason = "", FinishReason.LENGTH
            counts.generated -= event.generated_tokens
        elif self._logprobs is not None:
            self._logprobs.add(event.token, event.top_tokens)
        self._choice.finish_reason = finish_reason(reason)
        self._send(text, out)

    def render_error(self, problem: Problem, out: bytearray) -> None:
        """Append an error as OpenAI's clients read it; other choices go on."""
        append_event(openai_body(problem), out)

    def _send_prompt(self, out: bytearray) -> None:
        self._prompt_due = False
        self._send(self._request.inputs, out)

    def _send(self, text: str, out: bytearray) -> None:
        self._choice.text = text
        if self._logprobs is not None:
            self._choice.logprobs = self._logprobs.take()
        append_event(self._chunk, out)
