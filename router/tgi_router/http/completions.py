"""POST /v1/completions."""

from collections.abc import Iterable, Sequence

from aiohttp import web
from msgspec.json import Decoder

from tgi_router.generation import FinishReason
from tgi_router.http.answers import Answer, best_first, gather
from tgi_router.http.body import read_json
from tgi_router.http.completion_logprobs import LogprobWriter
from tgi_router.http.completion_plan import (
    CompletionPlan,
    Prompt,
    plan_completion,
    read_prompts,
    unchecked_requests,
)
from tgi_router.http.completion_stream import CompletionStream
from tgi_router.http.headers import answer_headers, stream_headers
from tgi_router.http.json_response import json_response
from tgi_router.http.openai import Stamp, TokenCounts, finish_reason, wants_usage
from tgi_router.http.services import Services
from tgi_router.http.sse import send_events
from tgi_router.http.start import Started, counting_refusals, start_members
from tgi_router.infer import Permit
from tgi_router.schema.completions import Completion, CompletionChoice, CompletionLogprobs, CompletionRequest
from tgi_router.text.answer_text import whole_text

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
        prompts = read_prompts(body, options.max_client_batch_size)
        plan = plan_completion(body, services.validator.limits)
        with services.inference.acquire(len(prompts) * plan.candidates) as permit:
            with counting_refusals(services, permit):
                started = await self._start(permit, body, plan, prompts)
            stamp = Stamp.new("cmpl", services.info)
            if body.stream:
                return await self._stream(request, body, plan, stamp, started)
            groups = [[await gather(*one) for one in candidates] for candidates in started]
            answers = [answer for group in groups for answer in group]
            headers = answer_headers(options.compute_type, permit.acquired_at, answers)
        return json_response(completion(stamp, plan, groups), headers)

    async def _start(
        self, permit: Permit, body: CompletionRequest, plan: CompletionPlan, prompts: Sequence[Prompt]
    ) -> list[list[Started]]:
        """The candidates of each prompt."""
        return [
            await start_members(self._services, permit, unchecked, plan.candidates)
            for unchecked in unchecked_requests(body, plan, prompts)
        ]

    async def _stream(
        self,
        request: web.Request,
        body: CompletionRequest,
        plan: CompletionPlan,
        stamp: Stamp,
        started: Sequence[Sequence[Started]],
    ) -> web.StreamResponse:
        stream = CompletionStream(stamp, plan, with_usage=wants_usage(body))
        generations = [
            (events, stream.renderer(valid, choice))
            for choices in started
            for choice, (valid, events) in enumerate(choices)
        ]
        characters = sum(len(choices[0][0].inputs) for choices in started)
        headers = stream_headers(self._services.options.compute_type, characters)
        return await send_events(request, headers, generations, stream.append_ending)


def completion(stamp: Stamp, plan: CompletionPlan, groups: Sequence[Sequence[Answer]]) -> Completion:
    """Finished generations, in the order of their prompts, as a completion.

    Args:
        stamp: what is the same in the whole response.
        plan: how they are shown.
        groups: the candidates of each prompt.
    """
    counts = TokenCounts()
    choices: list[CompletionChoice] = []
    for group in groups:
        chosen = group if plan.candidates == plan.choices else best_first(group)[: plan.choices]
        for answer in chosen:
            choices.append(completion_choice(len(choices), plan, answer))
        for place, answer in enumerate(group):
            counts.add(answer.request, answer.end, place)
    if plan.without_answer:
        counts.generated = 0
    return Completion(
        id=stamp.id,
        object="text_completion",
        created=stamp.created,
        model=stamp.model,
        system_fingerprint=stamp.system_fingerprint,
        choices=choices,
        usage=counts.usage(),
    )


def completion_choice(index: int, plan: CompletionPlan, answer: Answer) -> CompletionChoice:
    """A finished generation as one choice."""
    prompt = answer.request.inputs if plan.echo else ""
    shown = (
        "" if plan.without_answer else whole_text(plan.answer_text(answer.request), answer.tokens, answer.end)
    )
    reason = FinishReason.LENGTH if plan.without_answer else answer.end.finish_reason
    return CompletionChoice(index, prompt + shown, choice_logprobs(plan, answer), finish_reason(reason))


def choice_logprobs(plan: CompletionPlan, answer: Answer) -> CompletionLogprobs | None:
    """The log-probabilities of a choice's text, its prompt included where that is shown."""
    if plan.top_logprobs is None:
        return None
    writer = LogprobWriter(with_top_tokens=plan.top_logprobs > 0)
    if plan.echo:
        writer.add_prompt(answer.prefill)
    if not plan.without_answer:
        for token, tops in zip(answer.tokens, answer.top_tokens, strict=True):
            writer.add(token, tops)
    return writer.take()
