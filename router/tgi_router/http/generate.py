"""TGI's own routes: POST /generate, /generate_stream, and / which is either."""

from collections.abc import Iterable, Mapping

from aiohttp import web
from msgspec import UNSET, UnsetType
from msgspec.json import Decoder

from tgi_router import generation
from tgi_router.generation import EndEvent, PrefillEvent, TokenEvent
from tgi_router.http.answers import Answer, gather, split_best
from tgi_router.http.body import read_json
from tgi_router.http.errors import Problem, tgi_body
from tgi_router.http.headers import answer_headers, stream_headers
from tgi_router.http.json_response import json_response
from tgi_router.http.services import Services
from tgi_router.http.sse import append_event, send_events
from tgi_router.http.start import counting_refusals, start, start_members
from tgi_router.schema.generate import (
    BestOfSequence,
    CompatGenerateRequest,
    Details,
    GenerateRequest,
    GenerateResponse,
    PrefillToken,
    StreamDetails,
    StreamResponse,
    Token,
)
from tgi_router.schema.numbers import shorten_f32
from tgi_router.validation.request import UncheckedRequest
from tgi_router.validation.rules import check_single_answer, check_stream

_GENERATE = Decoder(GenerateRequest)
_COMPAT = Decoder(CompatGenerateRequest)


class GenerateRoutes:
    """The native generation routes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._options = services.options

    def routes(self) -> Iterable[web.RouteDef]:
        """The table of them."""
        return [
            web.post("/", self.compat_generate),
            web.post("/generate", self.generate),
            web.post("/generate_stream", self.generate_stream),
        ]

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """One generation, answered when it has ended."""
        body = await read_json(request, _GENERATE, self._options.payload_limit)
        response, headers = await self._answer(body)
        return json_response(response, headers)

    async def generate_stream(self, request: web.Request) -> web.StreamResponse:
        """One generation, an event for each token."""
        body = await read_json(request, _GENERATE, self._options.payload_limit)
        return await self._stream(request, body)

    async def compat_generate(self, request: web.Request) -> web.StreamResponse:
        """Either, as `stream` says; the text begins with the prompt unless `return_full_text` is false."""
        return await self.answer_compat(
            request, await read_json(request, _COMPAT, self._options.payload_limit)
        )

    async def answer_compat(self, request: web.Request, body: CompatGenerateRequest) -> web.StreamResponse:
        """Answer a body of `compat_generate`."""
        if body.parameters.return_full_text is None:
            body.parameters.return_full_text = True
        if body.stream:
            return await self._stream(request, body)
        response, headers = await self._answer(body)
        return json_response([response], headers)

    async def _answer(self, body: GenerateRequest) -> tuple[GenerateResponse, Mapping[str, str]]:
        services, parameters = self._services, body.parameters
        check_single_answer(parameters, services.validator.limits)
        unchecked = UncheckedRequest(body.inputs, parameters)
        with services.inference.acquire(unchecked.member_count) as permit:
            with counting_refusals(services, permit):
                members = await start_members(services, permit, unchecked, unchecked.member_count)
            # They run side by side; only their events are collected one after the other.
            best, others = split_best([await gather(*member) for member in members])
            headers = answer_headers(self._options.compute_type, permit.acquired_at, [best])
        prefix = body.inputs if parameters.return_full_text else ""
        response = GenerateResponse(prefix + best.end.generated_text)
        if parameters.details or parameters.decoder_input_details:
            response.details = details(best)
            if others:
                response.details.best_of_sequences = [best_of_sequence(other, prefix) for other in others]
        return response, headers

    async def _stream(self, request: web.Request, body: GenerateRequest) -> web.StreamResponse:
        services, parameters = self._services, body.parameters
        check_stream(parameters)
        with services.inference.acquire() as permit:
            with counting_refusals(services, permit):
                valid, stream = await start(services, permit, UncheckedRequest(body.inputs, parameters))
            renderer = TokenRenderer(
                input_length=valid.input_length,
                prefix=body.inputs if parameters.return_full_text else "",
                with_details=parameters.details,
            )
            headers = stream_headers(self._options.compute_type, len(body.inputs))
            return await send_events(request, headers, [(stream, renderer)])


class TokenRenderer:
    """Writes a generation's events as TGI's: one for each token, numbered from 1.

    Args:
        input_length: tokens of the prompt.
        prefix: put before the generated text in the last event.
        with_details: whether the last event has details.
    """

    def __init__(self, *, input_length: int, prefix: str, with_details: bool) -> None:
        self._input_length = input_length
        self._prefix = prefix
        self._with_details = with_details
        # Filled anew for each token, so that a token costs no new objects but its text.
        self._token = Token(0, "", 0.0, special=False)
        self._message = StreamResponse(0, self._token)

    def render_prefill(self, event: PrefillEvent, out: bytearray) -> None:
        """Append nothing: TGI's streams do not tell the prompt."""

    def render_token(self, event: TokenEvent, out: bytearray) -> None:
        """Append a token's event."""
        self._fill(event)
        append_event(self._message, out)

    def render_end(self, event: EndEvent, out: bytearray) -> None:
        """Append the last token's event, with the whole text."""
        self._fill(event)
        self._message.generated_text = self._prefix + event.generated_text
        if self._with_details:
            self._message.details = StreamDetails(
                event.finish_reason, event.generated_tokens, event.seed, self._input_length
            )
        append_event(self._message, out)

    def render_error(self, problem: Problem, out: bytearray) -> None:
        """Append TGI's error event."""
        append_event(tgi_body(problem), out)

    def _fill(self, event: TokenEvent | EndEvent) -> None:
        token, message = self._token, self._message
        token.id = event.token.id
        token.text = event.token.text
        token.logprob = shorten_f32(event.token.logprob)
        token.special = event.token.special
        message.index += 1
        message.top_tokens = [token_json(top) for top in event.top_tokens] if event.top_tokens else UNSET


def token_json(token: generation.Token) -> Token:
    """A token as TGI writes it."""
    return Token(token.id, token.text, shorten_f32(token.logprob), token.special)


def details(answer: Answer) -> Details:
    """A finished generation, token by token."""
    end = answer.end
    return Details(
        finish_reason=end.finish_reason,
        generated_tokens=end.generated_tokens,
        seed=end.seed,
        prefill=[prefill_json(token) for token in answer.prefill.tokens],
        tokens=[token_json(token) for token in answer.tokens],
        top_tokens=_top_tokens(answer),
    )


def best_of_sequence(answer: Answer, prefix: str) -> BestOfSequence:
    """A generation that another of the same request was better than."""
    own = details(answer)
    return BestOfSequence(
        generated_text=prefix + answer.end.generated_text,
        finish_reason=own.finish_reason,
        generated_tokens=own.generated_tokens,
        seed=own.seed,
        prefill=own.prefill,
        tokens=own.tokens,
        top_tokens=own.top_tokens,
    )


def prefill_json(token: generation.Token) -> PrefillToken:
    """A prompt's token as TGI writes it."""
    return PrefillToken(token.id, token.text, shorten_f32(token.logprob))


def _top_tokens(answer: Answer) -> list[list[Token]] | UnsetType:
    if not any(answer.top_tokens):
        return UNSET
    return [[token_json(token) for token in place] for place in answer.top_tokens]
