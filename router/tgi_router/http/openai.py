"""What the chat and completions routes share: from OpenAI's fields to a request, and back."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from tgi_router.generation import EndEvent, FinishReason, ValidRequest
from tgi_router.http.answers import Answer
from tgi_router.schema.generate import GenerateParameters
from tgi_router.schema.info import Info
from tgi_router.schema.numbers import SEED_MAX, round_to_f32
from tgi_router.schema.openai import (
    CompletionTokensDetails,
    PromptTokensDetails,
    SamplingFields,
    Usage,
)
from tgi_router.validation.refusal import refuse
from tgi_router.validation.request import Extensions, WrittenGrammar


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every object of one response repeats."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    @classmethod
    def new(cls, prefix: str, info: Info) -> "Stamp":
        """A new id, and the time now."""
        fingerprint = f"{info.version}-{info.docker_label or 'native'}"
        return cls(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), info.model_id, fingerprint)


@dataclass(slots=True)
class TokenCounts:
    """What the choices of one request have read and written so far.

    Attributes:
        prompt: tokens of the prompts, each counted once however many choices it has.
        cached: those of them that need not be computed.
        generated: tokens generated, over all choices.
        reasoning: those of them that were spent on reasoning.
    """

    prompt: int = 0
    cached: int = 0
    generated: int = 0
    reasoning: int = 0

    def add(self, request: ValidRequest, end: EndEvent, choice: int, reasoning: int = 0) -> None:
        """Count a finished choice, `choice` being its place among those of its prompt."""
        if choice == 0:
            self.prompt += request.input_length
            self.cached += end.cached_tokens
        self.generated += end.generated_tokens
        self.reasoning += reasoning

    def usage(self) -> Usage:
        """As OpenAI tells them."""
        return Usage(
            self.prompt,
            self.generated,
            self.prompt + self.generated,
            PromptTokensDetails(self.cached),
            CompletionTokensDetails(self.reasoning),
        )


def generation_parameters(body: SamplingFields, max_tokens: int | None) -> GenerateParameters:
    """TGI's parameters for OpenAI's fields.

    Temperature 0 means greedy, whatever else is given; no temperature means sampling at 1.
    """
    parameters = GenerateParameters(
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        max_new_tokens=max_tokens,
        stop=stop_strings(body),
        # Seeds may be negative here; TGI's are not.
        seed=None if body.seed is None else body.seed & SEED_MAX,
    )
    if samples(body):
        parameters.do_sample = True
        parameters.temperature = body.temperature
        parameters.top_p = body.top_p
        parameters.typical_p = body.typical_p
        # Other servers take -1 or 0 for "all tokens".
        parameters.top_k = None if body.top_k in (-1, 0) else body.top_k
    return parameters


def extensions(
    body: SamplingFields, *, prefill_top_n_tokens: int = 0, grammar: WrittenGrammar | None = None
) -> Extensions:
    """What TGI's parameters have no words for.

    Raises:
        ValidationError: a key of `logit_bias` is not a token id.
    """
    return Extensions(
        min_p=(body.min_p or 0.0) if samples(body) else 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        token_bias=token_bias(body.logit_bias or {}),
        min_new_tokens=body.min_tokens or 0,
        stop_token_ids=tuple(body.stop_token_ids or ()),
        ignore_eos_token=bool(body.ignore_eos),
        prefill_top_n_tokens=prefill_top_n_tokens,
        grammar=grammar,
    )


def token_bias(given: dict[str, float]) -> dict[int, float]:
    """A bias for each token id, which JSON can only carry as text.

    Raises:
        ValidationError: a key is not a number.
    """
    for key in given:
        if not (key.isascii() and key.isdecimal() and len(key) <= 10):
            refuse(
                f'`logit_bias` has the key {key[:32]!r}; keys must be token ids, such as "50256"',
                "logit_bias",
            )
    return {int(key): bias for key, bias in given.items() if bias != 0}


def samples(body: SamplingFields) -> bool:
    """Whether tokens are drawn, rather than the likeliest taken."""
    return body.temperature is None or round_to_f32(body.temperature) != 0


def choice_count(body: SamplingFields, allowed: int) -> int:
    """How many answers each prompt gets.

    Raises:
        ValidationError: there would be none, or more than are allowed.
    """
    count = 1 if body.n is None else body.n
    if not 1 <= count <= allowed:
        refuse(f"`n` must be >= 1 and <= {allowed}. Given: {count}", "n")
    return count


def stop_strings(body: SamplingFields) -> list[str]:
    """The stop strings, given as one or as a list."""
    if body.stop is None:
        return []
    return [body.stop] if isinstance(body.stop, str) else body.stop


def finish_reason(reason: FinishReason) -> str:
    """OpenAI's word for why a generation ended."""
    return "length" if reason is FinishReason.LENGTH else "stop"


def wants_usage(body: SamplingFields) -> bool:
    """Whether a stream ends with the token counts."""
    return bool(body.stream_options and body.stream_options.include_usage)


def usage_of(answers: Sequence[Answer], choices: int) -> Usage:
    """Token counts of finished generations: `choices` for each prompt, one after the other."""
    counts = TokenCounts()
    for place, answer in enumerate(answers):
        counts.add(answer.request, answer.end, place % choices)
    return counts.usage()
