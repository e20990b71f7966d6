"""What a request may ask for: TGI's rules, their order and their words."""

from dataclasses import replace
from typing import Any

import pytest

from support.byte_tokenizer import BOS_ID, byte_tokenizer
from tgi_router.schema.generate import GenerateParameters
from tgi_router.text.byte_vocabulary import byte_vocabulary
from tgi_router.text.grammar import GrammarChecker, GrammarLimits
from tgi_router.text.tokenizer import PromptTokenizer
from tgi_router.text.workers import TextWorkers
from tgi_router.validation.limits import RequestLimits
from tgi_router.validation.refusal import ValidationError
from tgi_router.validation.request import Extensions, UncheckedRequest
from tgi_router.validation.rules import check_single_answer, check_stream
from tgi_router.validation.validator import INLINE_CHARACTERS, Validator

LIMITS = RequestLimits(
    max_input_tokens=20,
    max_total_tokens=30,
    max_best_of=2,
    max_stop_sequences=4,
    max_top_n_tokens=5,
    max_choices=3,
    max_messages=8,
    max_tools=4,
    max_biased_tokens=3,
)


@pytest.fixture
def validator() -> Any:
    workers = TextWorkers(1, 4)
    tokenizer = PromptTokenizer(byte_tokenizer())
    grammars = GrammarChecker(byte_vocabulary(tokenizer.special_tokens(), tokenizer.size), GrammarLimits())
    yield Validator(LIMITS, tokenizer, workers, grammars)
    workers.close()


def request(inputs: str = "hello", **parameters: Any) -> UncheckedRequest:
    return UncheckedRequest(inputs, GenerateParameters(**parameters))


async def refusal(validator: Validator, unchecked: UncheckedRequest) -> tuple[str, str | None]:
    with pytest.raises(ValidationError) as caught:
        await validator.validate(unchecked)
    text = str(caught.value)
    assert text.startswith("Input validation error: ")
    return text.removeprefix("Input validation error: "), caught.value.parameter


# In the order in which they are checked.
BROKEN_RULES: list[tuple[dict[str, Any], str]] = [
    ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
    ({"temperature": 0.0}, "`temperature` must be strictly positive"),
    ({"temperature": -1.0}, "`temperature` must be strictly positive"),
    ({"repetition_penalty": 0.0}, "`repetition_penalty` must be strictly positive"),
    ({"frequency_penalty": 2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"frequency_penalty": -2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"top_p": 0.0}, "`top_p` must be > 0.0 and <= 1.0"),
    ({"top_p": 1.01}, "`top_p` must be > 0.0 and <= 1.0"),
    ({"typical_p": 0.0}, "`typical_p` must be > 0.0 and <= 1.0"),
    ({"top_k": 0}, "`top_k` must be strictly positive"),
    ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"stop": ["a", ""]}, "`stop` sequences cannot be empty"),
    ({"seed": 1, "best_of": 2, "do_sample": True}, "`seed` must not be set when `best_of` > 1"),
    ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
    ({"truncate": 0}, "`truncate` must be strictly positive and <= 20. Given: 0"),
    ({"truncate": 21}, "`truncate` must be strictly positive and <= 20. Given: 21"),
    (
        {"max_new_tokens": 25},
        "`inputs` tokens + `max_new_tokens` must be <= 30. Given: 6 `inputs` tokens and 25 `max_new_tokens`",
    ),
    ({"adapter_id": "no/such"}, "`adapter_id` 'no/such' is unknown: no adapters are loaded"),
    ({"grammar": {"type": "regex"}}, "`grammar` has no `value`"),
]


@pytest.mark.parametrize(("parameters", "text"), BROKEN_RULES, ids=[str(rule[0]) for rule in BROKEN_RULES])
async def test_a_broken_rule_is_told_in_tgis_words(
    validator: Validator, parameters: dict[str, Any], text: str
) -> None:
    message, parameter = await refusal(validator, request(**parameters))
    assert message == text
    assert parameter in parameters


@pytest.mark.parametrize("place", range(1, len(BROKEN_RULES)))
async def test_the_first_broken_rule_is_the_one_told(validator: Validator, place: int) -> None:
    """Each rule is broken together with the next one that concerns another field."""
    first, text = BROKEN_RULES[place - 1]
    later = next((rule for rule, _ in BROKEN_RULES[place:] if not rule.keys() & first.keys()), {})
    if first == {"best_of": 2} and later.keys() & {"temperature"}:
        later = {"repetition_penalty": 0.0}  # a temperature would make it sample
    message, _ = await refusal(validator, request(**(later | first)))
    assert message == text


async def test_an_empty_prompt_is_refused_before_its_truncation_is_looked_at(validator: Validator) -> None:
    assert (await refusal(validator, request("", truncate=0)))[0] == "`inputs` cannot be empty"


async def test_a_long_prompt_is_refused_with_both_numbers(validator: Validator) -> None:
    message, _ = await refusal(validator, request("x" * 20, max_new_tokens=1))
    assert message == "`inputs` must have <= 20 tokens. Given: 21"


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 1e-30},
        {"top_p": 1.0},
        {"typical_p": 1.0},
        {"frequency_penalty": 2.0},
        {"frequency_penalty": -2.0},
        {"top_k": 1},
        {"stop": list("abcd")},
        {"top_n_tokens": 5},
        {"top_n_tokens": 0},
        {"truncate": 20},
        {"best_of": 0},
        {"best_of": 1},
        {"max_new_tokens": 24},
        {"seed": 2**64 - 1},
    ],
    ids=str,
)
async def test_the_edge_of_a_rule_is_allowed(validator: Validator, parameters: dict[str, Any]) -> None:
    assert await validator.validate(request(**parameters))


async def test_what_is_zero_in_32_bits_is_zero(validator: Validator) -> None:
    assert await refusal(validator, request(temperature=1e-46))
    assert await refusal(validator, request(top_p=1e-46))


async def test_defaults_are_neutral_and_greedy(validator: Validator) -> None:
    valid = await validator.validate(request())
    sampling = valid.parameters
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.typical_p) == (1.0, 0, 1.0, 1.0)
    assert (sampling.repetition_penalty, sampling.frequency_penalty) == (1.0, 0.0)
    assert not sampling.do_sample
    assert valid.input_ids[0] == BOS_ID
    assert (valid.input_length, valid.truncate) == (6, 20)
    assert valid.stopping.max_new_tokens == 30 - 6


@pytest.mark.parametrize(
    ("parameters", "samples"),
    [
        ({}, False),
        ({"temperature": 1.0}, False),
        ({"top_p": 1.0, "typical_p": 1.0}, False),
        ({"seed": 3}, False),
        ({"do_sample": True}, True),
        ({"temperature": 0.5}, True),
        ({"top_k": 5}, True),
        ({"top_p": 0.9}, True),
        ({"typical_p": 0.9}, True),
    ],
    ids=str,
)
async def test_sampling_is_on_when_a_parameter_takes_part_in_it(
    validator: Validator, parameters: dict[str, Any], samples: bool
) -> None:
    assert (await validator.validate(request(**parameters))).parameters.do_sample == samples


async def test_seeds_are_kept_or_drawn(validator: Validator) -> None:
    assert (await validator.validate(request(seed=2**64 - 1))).parameters.seed == 2**64 - 1
    drawn = {(await validator.validate(request())).parameters.seed for _ in range(4)}
    assert len(drawn) == 4
    assert all(0 <= seed < 2**64 for seed in drawn)


async def test_truncation_keeps_the_last_tokens(validator: Validator) -> None:
    whole = await validator.validate(request("0123456789"))
    cut = await validator.validate(request("0123456789", truncate=4))
    assert cut.input_ids == list(whole.input_ids)[-4:]
    assert cut.truncate == 4
    assert cut.inputs == "0123456789"


async def test_a_long_prompt_passes_when_it_is_truncated(validator: Validator) -> None:
    assert (await validator.validate(request("x" * 100, truncate=20))).input_length == 20


async def test_long_texts_are_tokenized_the_same_in_a_worker(validator: Validator) -> None:
    text = "é" * (INLINE_CHARACTERS + 1)
    valid = await validator.validate(request(text, truncate=20))
    assert valid.input_ids == PromptTokenizer(byte_tokenizer()).encode(text, add_special_tokens=True)[-20:]


async def test_special_tokens_are_left_out_where_a_template_wrote_them(validator: Validator) -> None:
    unchecked = UncheckedRequest("hello", GenerateParameters(), add_special_tokens=False)
    assert BOS_ID not in (await validator.validate(unchecked)).input_ids


async def test_the_rest_is_passed_on(validator: Validator) -> None:
    parameters = GenerateParameters(stop=["a", "b"], top_n_tokens=3, decoder_input_details=True)
    valid = await validator.validate(UncheckedRequest("hello", parameters, Extensions(ignore_eos_token=True)))
    assert valid.stopping.stop_sequences == ("a", "b")
    assert valid.stopping.ignore_eos_token
    assert (valid.top_n_tokens, valid.prefill_logprobs) == (3, True)


@pytest.mark.parametrize("best_of", [0, 2])
def test_a_stream_has_one_answer(best_of: int) -> None:
    with pytest.raises(ValidationError, match="`best_of` != 1 is not supported when streaming tokens"):
        check_stream(GenerateParameters(best_of=best_of))


def test_a_stream_has_no_prompt_details() -> None:
    with pytest.raises(ValidationError, match="`decoder_input_details` == true is not supported"):
        check_stream(GenerateParameters(decoder_input_details=True))


def test_best_of_has_a_bound() -> None:
    check_single_answer(GenerateParameters(best_of=2), LIMITS)
    with pytest.raises(ValidationError, match=r"`best_of` must be > 0 and <= 2\. Given: 3"):
        check_single_answer(GenerateParameters(best_of=3), LIMITS)


def test_best_of_can_be_switched_off() -> None:
    limits = replace(LIMITS, max_best_of=1)
    with pytest.raises(ValidationError, match="`best_of` != 1 is not allowed for this endpoint"):
        check_single_answer(GenerateParameters(best_of=2), limits)
