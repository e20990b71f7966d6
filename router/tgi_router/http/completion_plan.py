"""What a /v1/completions request asks for, checked and in one piece."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from tgi_router.generation import ValidRequest
from tgi_router.http.body import BodyError
from tgi_router.http.grammars import requested_grammar
from tgi_router.http.openai import choice_count, extensions, generation_parameters, samples
from tgi_router.schema.completions import CompletionRequest
from tgi_router.text.answer_text import AnswerText, Everything
from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.refusal import refuse
from tgi_router.validation.request import Extensions, UncheckedRequest

Prompt = str | Sequence[int]


@dataclass(frozen=True, slots=True)
class CompletionPlan:
    """How every prompt of a request is completed and shown.

    Attributes:
        choices: answers to each prompt.
        candidates: generations for each prompt, of which the best become its answers.
        echo: whether the text begins with the prompt.
        without_answer: whether the prompt is all that is shown: clients score texts so.
        top_logprobs: how many of the likeliest tokens to tell with the log-probabilities; None for neither.
        shows_stops: whether the stop string that ended a text is part of it.
        shown_specials: texts of special tokens that are shown.
    """

    choices: int
    candidates: int
    echo: bool
    without_answer: bool
    top_logprobs: int | None
    shows_stops: bool
    shown_specials: Container[str]

    def answer_text(self, request: ValidRequest) -> AnswerText:
        """What turns one generation's tokens into its text."""
        stops = () if self.shows_stops else request.stopping.stop_sequences
        return AnswerText(stops, self.shown_specials)


def plan_completion(body: CompletionRequest, limits: RequestLimits) -> CompletionPlan:
    """Read what a body asks for.

    Raises:
        ValidationError: it asks for what cannot be.
    """
    choices = choice_count(body, limits.max_choices)
    top_logprobs = read_logprobs(body, limits)
    return CompletionPlan(
        choices=choices,
        candidates=read_best_of(body, choices, limits),
        echo=bool(body.echo),
        without_answer=bool(body.echo) and body.max_tokens == 0,
        top_logprobs=top_logprobs,
        shows_stops=bool(body.include_stop_str_in_output),
        shown_specials=Everything() if body.skip_special_tokens is False else (),
    )


def unchecked_requests(
    body: CompletionRequest, plan: CompletionPlan, prompts: Sequence[Prompt]
) -> list[UncheckedRequest]:
    """The request for each prompt.

    Raises:
        ValidationError: a field cannot be used.
    """
    parameters = generation_parameters(body, 1 if plan.without_answer else body.max_tokens)
    parameters.top_n_tokens = plan.top_logprobs
    parameters.decoder_input_details = plan.echo and plan.top_logprobs is not None
    wishes: Extensions = extensions(
        body,
        prefill_top_n_tokens=(plan.top_logprobs or 0) if parameters.decoder_input_details else 0,
        grammar=requested_grammar(body),
    )
    return [UncheckedRequest(prompt, parameters, wishes) for prompt in prompts]


def read_prompts(body: CompletionRequest, allowed: int) -> list[Prompt]:
    """The prompts, given as a text, as token ids, or as a list of either.

    Raises:
        BodyError: `suffix` is given, the number of prompts is not allowed, or their kinds are mixed.
    """
    if body.suffix:
        raise BodyError(422, "suffix not supported", "`suffix` is not supported", "suffix")
    given = body.prompt
    if isinstance(given, str):
        return [given]
    if not given:
        raise BodyError(422, "validation", "Input validation error: `prompt` cannot be empty", "prompt")
    kind = type(given[0])
    for place, prompt in enumerate(given):
        if type(prompt) is not kind:
            message = (
                "Input validation error: `prompt` must be a text, token ids, a list of texts, or a list of "
                f"lists of token ids; these are mixed - at `$.prompt[{place}]`"
            )
            raise BodyError(422, "validation", message, f"prompt[{place}]")
    prompts: list[Prompt] = (
        [[each for each in given if isinstance(each, int)]]
        if kind is int
        else [each for each in given if not isinstance(each, int)]
    )
    if len(prompts) > allowed:
        message = f"Number of prompts exceeds the maximum allowed batch size of {allowed}"
        raise BodyError(422, "batch size exceeded", message, "prompt")
    return prompts


def read_best_of(body: CompletionRequest, choices: int, limits: RequestLimits) -> int:
    """How many generations each prompt gets.

    Raises:
        ValidationError: fewer than there are choices, too many, or more than choices in a stream.
    """
    best_of = body.best_of or choices
    allowed = max(limits.max_best_of, choices)
    if not choices <= best_of <= allowed:
        refuse(f"`best_of` must be >= `n` ({choices}) and <= {allowed}. Given: {best_of}", "best_of")
    if best_of > choices and body.stream:
        refuse("`best_of` > `n` is not supported when streaming", "best_of")
    if best_of > choices and not samples(body):
        refuse("you must use sampling when `best_of` is > `n`: `temperature` is 0", "best_of")
    return best_of


def read_logprobs(body: CompletionRequest, limits: RequestLimits) -> int | None:
    """How many of the likeliest tokens to tell; None for no log-probabilities at all.

    Raises:
        ValidationError: too many.
    """
    if body.logprobs is None or body.logprobs is False:
        return None
    count = int(body.logprobs)
    if count > limits.max_top_n_tokens:
        refuse(f"`logprobs` must be >= 0 and <= {limits.max_top_n_tokens}. Given: {count}", "logprobs")
    return count
