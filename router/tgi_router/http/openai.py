"""What the chat and completions routes share: from OpenAI's fields to TGI's parameters, and back."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from tgi_router.generation import FinishReason, Token
from tgi_router.http.answers import Answer
from tgi_router.schema.generate import GenerateParameters
from tgi_router.schema.info import Info
from tgi_router.schema.numbers import SEED_MAX, round_to_f32
from tgi_router.schema.openai import SamplingFields, Usage
from tgi_router.text.stops import cut_stop
from tgi_router.validation import refuse


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


def generation_parameters(body: SamplingFields, max_tokens: int | None) -> GenerateParameters:
    """TGI's parameters for OpenAI's fields.

    Temperature 0 means greedy, whatever else is given; no temperature means sampling at 1.

    Raises:
        ValidationError: a field asks for what this server cannot do.
    """
    refuse_unsupported(body)
    parameters = GenerateParameters(
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        max_new_tokens=max_tokens,
        stop=stop_strings(body),
        # Seeds may be negative here; TGI's are not.
        seed=None if body.seed is None else body.seed & SEED_MAX,
    )
    if body.temperature is None or round_to_f32(body.temperature) != 0:
        parameters.do_sample = True
        parameters.temperature = body.temperature
        parameters.top_p = body.top_p
        parameters.typical_p = body.typical_p
        # Other servers take -1 or 0 for "all tokens".
        parameters.top_k = None if body.top_k in (-1, 0) else body.top_k
    return parameters


def refuse_unsupported(body: SamplingFields) -> None:
    """Refuse what would change the answer and is not supported, rather than ignore it.

    Raises:
        ValidationError: it is asked for.
    """
    if body.presence_penalty:
        refuse("`presence_penalty` is not supported, except 0", "presence_penalty")
    if body.logit_bias:
        refuse("`logit_bias` is not supported", "logit_bias")
    if body.n not in (None, 1):
        refuse("`n` must be 1: more than one choice is not supported", "n")


def stop_strings(body: SamplingFields) -> list[str]:
    """The stop strings, given as one or as a list."""
    if body.stop is None:
        return []
    return [body.stop] if isinstance(body.stop, str) else body.stop


def finish_reason(reason: FinishReason) -> str:
    """OpenAI's word for why a generation ended."""
    return "length" if reason is FinishReason.LENGTH else "stop"


def shown_text(token: Token) -> str:
    """A token's text as it belongs in an answer: nothing for special tokens."""
    return "" if token.special else token.text


def shown_answer(answer: Answer) -> str:
    """A finished generation's text without the stop string that ended it."""
    text = answer.end.generated_text
    if answer.end.finish_reason is not FinishReason.STOP_SEQUENCE:
        return text
    return cut_stop(text, answer.request.stopping.stop_sequences)


def wants_usage(body: SamplingFields) -> bool:
    """Whether a stream ends with the token counts."""
    return bool(body.stream_options and body.stream_options.include_usage)


def usage(prompt_tokens: int, completion_tokens: int) -> Usage:
    """Token counts with their sum."""
    return Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens)


def usage_of(answers: Sequence[Answer]) -> Usage:
    """Token counts of finished generations."""
    return usage(
        sum(answer.request.input_length for answer in answers),
        sum(answer.end.generated_tokens for answer in answers),
    )
