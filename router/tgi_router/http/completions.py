"""POST /v1/completions."""

from collections.abc import Iterable, Sequence

from aiohttp import web
from msgspec import UNSET
from msgspec.json import Decoder

from tgi_router.generation import EndEvent, FinishReason, TokenEvent, ValidRequest
from tgi_router.http.answers import Answer, gather
from tgi_router.http.body import BodyError, read_json
from tgi_router.http.errors import Problem, openai_body
from tgi_router.http.headers import answer_headers, stream_headers
from tgi_router.http.json_response import json_response
from tgi_router.http.openai import (
    Stamp,
    finish_reason,
    generation_parameters,
    shown_answer,
    shown_text,
    usage,
    usage_of,
    wants_usage,
)
from tgi_router.http.services import Services
from tgi_router.http.sse import DONE, append_event, send_events
from tgi_router.http.start import Started, counting_refusals, start
from tgi_router.infer import Permit
from tgi_router.schema.completions import Completion, CompletionChoice, CompletionRequest
from tgi_router.schema.generate import GenerateParameters
from tgi_router.text.stops import StopFilter
from tgi_router.validation import UncheckedRequest, refuse

_COMPLETION = Decoder(CompletionRequest)


class CompletionRoutes:
    """The completions route."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of it."""
        return [web.post("/v1/completions", self.complete)]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Continue the prompts in the body."""
        limit = self._services.options.payload_limit
        return await self.answer(request, await read_json(request, _COMPLETION, limit))

    async def answer(self, request: web.Request, body: CompletionRequest) -> web.StreamResponse:
        """Continue one or several prompts, in one piece or as a stream."""
        services, options = self._services, self._services.options
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        check_prompts(prompts, body, options.max_client_batch_size)
        with services.inference.acquire(len(prompts)) as permit:
            with counting_refusals(services, permit):
                started = await self._start(permit, body, prompts)
            stamp = Stamp.new("cmpl", services.info)
            if body.stream:
                return await self._stream(request, body, stamp, started)
            answers = [await gather(*one) for one in started]
            headers = answer_headers(options.compute_type, permit.acquired_at, answers)
        return json_response(completion(stamp, answers), headers)

    async def _start(self, permit: Permit, body: CompletionRequest, prompts: Sequence[str]) -> list[Started]:
        parameters = completion_parameters(body)
        ignore_eos = bool(body.ignore_eos)
        return [
            await start(
                self._services, permit, UncheckedRequest(prompt, parameters, ignore_eos_token=ignore_eos)
            )
            for prompt in prompts
        ]

    async def _stream(
        self, request: web.Request, body: CompletionRequest, stamp: Stamp, started: Sequence[Started]
    ) -> web.StreamResponse:
        with_usage = wants_usage(body)
        renderers = [
            CompletionRenderer(stamp, index, valid, with_usage=with_usage)
            for index, (valid, _) in enumerate(started)
        ]

        def append_ending(out: bytearray) -> None:
            if with_usage:
                append_event(usage_chunk(stamp, renderers), out)
            out += DONE

        characters = sum(len(valid.inputs) for valid, _ in started)
        headers = stream_headers(self._services.options.compute_type, characters)
        generations = [(stream, renderer) for (_, stream), renderer in zip(started, renderers, strict=True)]
        return await send_events(request, headers, generations, append_ending)


class CompletionRenderer:
    """Writes one prompt's events as chunks, one for each token.

    Args:
        stamp: what every chunk repeats.
        index: place of the prompt in the request.
        request: what is generated.
        with_usage: whether the token counts will follow in a last chunk.
    """

    def __init__(self, stamp: Stamp, index: int, request: ValidRequest, *, with_usage: bool) -> None:
        stops = request.stopping.stop_sequences
        self.input_length = request.input_length
        self.generated_tokens = 0
        self._stops = StopFilter(stops) if stops else None
        # Filled anew for each token, so that a token costs no new objects but its text.
        self._choice = CompletionChoice(index, "")
        self._chunk = _completion(stamp, [self._choice])
        self._chunk.usage = None if with_usage else UNSET

    def render_token(self, event: TokenEvent, out: bytearray) -> None:
        """Append a token's chunk."""
        text = shown_text(event.token)
        self._choice.text = text if self._stops is None else self._stops.push(text)
        append_event(self._chunk, out)

    def render_end(self, event: EndEvent, out: bytearray) -> None:
        """Append the last token's chunk, which says why the text ends."""
        text = shown_text(event.token)
        if self._stops is not None:
            text = self._stops.finish(text, stopped=event.finish_reason is FinishReason.STOP_SEQUENCE)
        self._choice.text = text
        self._choice.finish_reason = finish_reason(event.finish_reason)
        append_event(self._chunk, out)
        self.generated_tokens = event.generated_tokens

    def render_error(self, problem: Problem, out: bytearray) -> None:
        """Append an error as OpenAI's clients read it; other prompts go on."""
        append_event(openai_body(problem), out)


def check_prompts(prompts: Sequence[str], body: CompletionRequest, allowed: int) -> None:
    """The rules that TGI checks before anything else.

    Raises:
        BodyError: `suffix` is given, or the number of prompts is not allowed.
    """
    if body.suffix:
        raise BodyError(422, "suffix not supported", "`suffix` is not supported", "suffix")
    if not prompts:
        raise BodyError(422, "validation", "Input validation error: `prompt` cannot be empty", "prompt")
    if len(prompts) > allowed:
        message = f"Number of prompts exceeds the maximum allowed batch size of {allowed}"
        raise BodyError(422, "batch size exceeded", message, "prompt")


def completion_parameters(body: CompletionRequest) -> GenerateParameters:
    """TGI's parameters for a completion.

    Raises:
        ValidationError: a field asks for what this server cannot do.
    """
    if body.echo:
        refuse("`echo` is not supported", "echo")
    if body.best_of not in (None, 1):
        refuse("`best_of` must be 1", "best_of")
    if body.logprobs not in (None, False):
        refuse("`logprobs` is not supported", "logprobs")
    return generation_parameters(body, body.max_tokens)


def completion(stamp: Stamp, answers: Sequence[Answer]) -> Completion:
    """Finished generations, in the order of their prompts, as a completion."""
    choices = [
        CompletionChoice(index, shown_answer(answer), finish_reason=finish_reason(answer.end.finish_reason))
        for index, answer in enumerate(answers)
    ]
    whole = _completion(stamp, choices)
    whole.usage = usage_of(answers)
    return whole


def usage_chunk(stamp: Stamp, renderers: Sequence[CompletionRenderer]) -> Completion:
    """The chunk after the last: token counts of all prompts."""
    chunk = _completion(stamp, [])
    chunk.usage = usage(
        sum(renderer.input_length for renderer in renderers),
        sum(renderer.generated_tokens for renderer in renderers),
    )
    return chunk


def _completion(stamp: Stamp, choices: list[CompletionChoice]) -> Completion:
    return Completion(
        id=stamp.id,
        object="text_completion",
        created=stamp.created,
        model=stamp.model,
        system_fingerprint=stamp.system_fingerprint,
        choices=choices,
    )
