"""TGI's rules for the parameters of a request (router/src/validation.rs), in TGI's words."""

from tgi_router.schema.generate import GenerateParameters
from tgi_router.schema.numbers import round_to_f32
from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.refusal import refuse
from tgi_router.validation.request import UncheckedRequest
from tgi_router.validation.sampling import asks_for_sampling


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
    if len(request.inputs) == 0:
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
    if given.adapter_id is not None:
        refuse(f"`adapter_id` {given.adapter_id!r} is unknown: no adapters are loaded", "adapter_id")
