"""Checks a request against the server's limits and turns its text into tokens."""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, TypeVar

from tgi_router.generation import SamplingParameters, StoppingParameters, ValidRequest
from tgi_router.schema.generate import GenerateParameters
from tgi_router.schema.numbers import round_to_f32
from tgi_router.text.tokenizer import PromptTokenizer, TokenSpan
from tgi_router.text.workers import TextWorkers

T = TypeVar("T")

INLINE_CHARACTERS = 1024
"""Texts up to this length are tokenized on the event loop: about 0.1 ms, as much as the way to a thread."""


class ValidationError(Exception):
    """The request asks for something that cannot be: HTTP 422.

    Attributes:
        parameter: the field that is wrong, by TGI's name; None if it is not a single one.
    """

    error_type = "validation"

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(f"Input validation error: {message}")
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a single request may ask for."""

    max_input_tokens: int
    max_total_tokens: int
    max_best_of: int
    max_stop_sequences: int
    max_top_n_tokens: int


@dataclass(frozen=True, slots=True)
class UncheckedRequest:
    """A prompt and the wishes of its sender, in TGI's terms, whichever route it came by."""

    inputs: str
    parameters: GenerateParameters
    add_special_tokens: bool = True
    ignore_eos_token: bool = False

    @property
    def member_count(self) -> int:
        """Generations to run side by side, of which the best is answered."""
        return self.parameters.best_of or 1


class Validator:
    """Applies TGI's rules (router/src/validation.rs) in TGI's order; the first that is broken is reported.

    Differences: `top_p` and `typical_p` may be 1, which is their neutral value, and `max_new_tokens` is
    checked as given rather than cut to 1024 first.
    """

    def __init__(self, limits: RequestLimits, tokenizer: PromptTokenizer, workers: TextWorkers) -> None:
        self.limits = limits
        self._tokenizer = tokenizer
        self._workers = workers

    async def validate(self, request: UncheckedRequest) -> ValidRequest:
        """Everything that needs a permit first; see also `check_single_answer` and `check_stream`.

        Raises:
            ValidationError: a rule is broken.
            OverloadedError: too many texts wait to be tokenized.
        """
        parameters, limits = request.parameters, self.limits
        check_sampling(request)
        check_stopping(parameters, limits)
        check_inputs(request, limits)
        ids = await self._encode(request.inputs, add_special_tokens=request.add_special_tokens)
        if parameters.truncate is not None:
            ids = ids[-parameters.truncate :]
        max_new_tokens = check_length(len(ids), parameters.max_new_tokens, limits)
        refuse_unsupported(parameters)
        return ValidRequest(
            inputs=request.inputs,
            input_ids=ids,
            add_special_tokens=request.add_special_tokens,
            truncate=parameters.truncate or limits.max_input_tokens,
            parameters=resolve_sampling(parameters),
            stopping=StoppingParameters(max_new_tokens, tuple(parameters.stop), request.ignore_eos_token),
            top_n_tokens=parameters.top_n_tokens or 0,
            prefill_logprobs=parameters.decoder_input_details,
        )

    async def tokenize(self, text: str, render: Callable[[Iterable[TokenSpan]], T]) -> T:
        """What `render` makes of the tokens of a text, with special ones added, and their places in it.

        A long text is rendered by a worker too: its answer is many times as long as the text.

        Raises:
            OverloadedError: too many texts wait to be tokenized.
        """

        def work() -> T:
            return render(self._tokenizer.encode_with_spans(text, add_special_tokens=True))

        return work() if len(text) <= INLINE_CHARACTERS else await self._workers.run(work)

    async def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        work = partial(self._tokenizer.encode, text, add_special_tokens=add_special_tokens)
        ids = work() if len(text) <= INLINE_CHARACTERS else await self._workers.run(work)
        if not ids:
            refuse("`inputs` cannot be empty: they have no tokens", "inputs")
        return ids


def refuse(message: str, parameter: str | None = None) -> NoReturn:
    """Raise a ValidationError."""
    raise ValidationError(message, parameter)


def check_single_answer(parameters: GenerateParameters, limits: RequestLimits) -> None:
    """What is checked first when the answer comes whole.

    Raises:
        ValidationError: `best_of` is not available, or too high.
    """
    best_of = parameters.best_of or 1
    if best_of > 1 and limits.max_best_of == 1:
        refuse("`best_of` != 1 is not allowed for this endpoint", "best_of")
    if best_of > limits.max_best_of:
        refuse(f"`best_of` must be > 0 and <= {limits.max_best_of}. Given: {best_of}", "best_of")


def check_stream(parameters: GenerateParameters) -> None:
    """What is checked first when the answer is streamed.

    Raises:
        ValidationError: something is asked for that only a whole answer can give.
    """
    if parameters.best_of not in (None, 1):
        refuse("`best_of` != 1 is not supported when streaming tokens", "best_of")
    if parameters.decoder_input_details:
        message = "`decoder_input_details` == true is not supported when streaming tokens"
        refuse(message, "decoder_input_details")


def check_sampling(request: UncheckedRequest) -> None:
    """The rules for how tokens are chosen.

    Raises:
        ValidationError: one is broken.
    """
    given = request.parameters
    if request.member_count > 1 and not asks_for_sampling(given):
        refuse("you must use sampling when `best_of` is > 1", "best_of")
    for name, value in (("temperature", given.temperature), ("repetition_penalty", given.repetition_penalty)):
        if value is not None and round_to_f32(value) <= 0:
            refuse(f"`{name}` must be strictly positive", name)
    if given.frequency_penalty is not None and not -2 <= given.frequency_penalty <= 2:
        refuse("`frequency_penalty` must be >= -2.0 and <= 2.0", "frequency_penalty")
    for name, share in (("top_p", given.top_p), ("typical_p", given.typical_p)):
        if share is not None and not (round_to_f32(share) > 0 and share <= 1):
            refuse(f"`{name}` must be > 0.0 and <= 1.0", name)
    if given.top_k is not None and given.top_k <= 0:
        refuse("`top_k` must be strictly positive", "top_k")


def check_stopping(given: GenerateParameters, limits: RequestLimits) -> None:
    """The rules for when a generation ends, and two that TGI checks next to them.

    Raises:
        ValidationError: one is broken.
    """
    if given.max_new_tokens == 0:
        refuse("`max_new_tokens` must be strictly positive", "max_new_tokens")
    if len(given.stop) > limits.max_stop_sequences:
        count = len(given.stop)
        refuse(f"`stop` supports up to {limits.max_stop_sequences} stop sequences. Given: {count}", "stop")
    if "" in given.stop:
        refuse("`stop` sequences cannot be empty", "stop")
    if given.seed is not None and (given.best_of or 1) > 1:
        refuse("`seed` must not be set when `best_of` > 1", "seed")
    if (given.top_n_tokens or 0) > limits.max_top_n_tokens:
        allowed = limits.max_top_n_tokens
        refuse(f"`top_n_tokens` must be >= 0 and <= {allowed}. Given: {given.top_n_tokens}", "top_n_tokens")


def check_inputs(request: UncheckedRequest, limits: RequestLimits) -> None:
    """The rules for a prompt before it is tokenized.

    Raises:
        ValidationError: one is broken.
    """
    if not request.inputs:
        refuse("`inputs` cannot be empty", "inputs")
    truncate = request.parameters.truncate
    if truncate is not None and not 0 < truncate <= limits.max_input_tokens:
        allowed = limits.max_input_tokens
        refuse(f"`truncate` must be strictly positive and <= {allowed}. Given: {truncate}", "truncate")


def check_length(input_length: int, max_new_tokens: int | None, limits: RequestLimits) -> int:
    """The number of tokens to generate at most: as asked for, or all there is room for.

    Raises:
        ValidationError: the prompt, or prompt and answer together, are too long.
    """
    total = limits.max_total_tokens
    new_tokens = max(total - input_length, 0) if max_new_tokens is None else max_new_tokens
    if input_length + new_tokens > total:
        refuse(
            f"`inputs` tokens + `max_new_tokens` must be <= {total}. "
            f"Given: {input_length} `inputs` tokens and {new_tokens} `max_new_tokens`",
            "max_new_tokens",
        )
    if input_length > limits.max_input_tokens:
        refuse(f"`inputs` must have <= {limits.max_input_tokens} tokens. Given: {input_length}", "inputs")
    return new_tokens


def refuse_unsupported(given: GenerateParameters) -> None:
    """Say so when something is asked for that this server cannot do.

    Raises:
        ValidationError: it is.
    """
    if given.watermark:
        refuse("`watermark` is not supported", "watermark")
    if given.adapter_id is not None:
        refuse(f"`adapter_id` {given.adapter_id!r} is unknown: no adapters are loaded", "adapter_id")
    if given.grammar is not None:
        refuse("grammar is not supported", "grammar")


def asks_for_sampling(given: GenerateParameters) -> bool:
    """Whether any parameter that only sampling reads was given."""
    sampling = (given.temperature, given.top_k, given.top_p, given.typical_p)
    return given.do_sample or any(value is not None for value in sampling)


def resolve_sampling(given: GenerateParameters) -> SamplingParameters:
    """All defaults filled in; a random seed where none was given.

    Values are not yet rounded to 32 bits; the contract does that on the way out.
    """
    temperature = 1.0 if given.temperature is None else given.temperature
    top_k = given.top_k or 0
    top_p = 1.0 if given.top_p is None else given.top_p
    typical_p = 1.0 if given.typical_p is None else given.typical_p
    return SamplingParameters(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        typical_p=typical_p,
        # A neutral value given by name changes nothing, as in TGI's shards (utils/tokens.py).
        do_sample=given.do_sample or temperature != 1 or top_k != 0 or top_p < 1 or typical_p < 1,
        seed=secrets.randbits(64) if given.seed is None else given.seed,
        repetition_penalty=1.0 if given.repetition_penalty is None else given.repetition_penalty,
        frequency_penalty=given.frequency_penalty or 0.0,
        watermark=given.watermark,
    )
