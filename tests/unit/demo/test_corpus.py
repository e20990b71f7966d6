"""The generated text: its answers are right, and no held-out sum is in it."""

import json
import re
from itertools import islice
from random import Random
from typing import Any

import pytest

from tgi_demo import MODEL_PATH
from training import tasks
from training.corpus import EVERYTHING, SUMS_FIRST, Corpus, Document, Mix
from training.sums import LIMIT, held_out_pairs, is_held_out, training_pair
from training.tasks import Exchange
from training.tokenizer import chat_template
from training.tools import TOOL_KINDS

DRAWS = 200


def draws(task: tasks.Task) -> list[Exchange]:
    rng = Random(7)
    return [task(rng) for _ in range(DRAWS)]


def question_and_answer(exchange: Exchange) -> tuple[str, str]:
    asked, answered = exchange.messages
    assert (asked["role"], answered["role"]) == ("user", "assistant")
    return str(asked["content"]), str(answered["content"])


def numbers_in(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def through_json(value: object) -> Any:
    return json.loads(json.dumps(value))


def documents(mix: Mix, count: int) -> list[Document]:
    return list(islice(Corpus(chat_template(MODEL_PATH), mix, seed=3), count))


def text_of(document: Document) -> str:
    return "".join(segment.text for segment in document)


def test_sums_are_right_in_every_phrasing() -> None:
    for question, answer in map(question_and_answer, draws(tasks.addition)):
        a, b = numbers_in(question)
        assert int(answer) == a + b


def test_differences_are_right_and_not_negative() -> None:
    for question, answer in map(question_and_answer, draws(tasks.subtraction)):
        first, second = numbers_in(question)
        if question.startswith("Subtract"):
            first, second = second, first
        assert int(answer) == first - second >= 0


def test_repeated_words_are_the_words_after_the_colon() -> None:
    for question, answer in map(question_and_answer, draws(tasks.repeating)):
        assert question.split(": ", 1)[1] == answer


def test_reversed_words_read_backwards() -> None:
    for question, answer in map(question_and_answer, draws(tasks.reversing)):
        assert question.split(": ", 1)[1].split(" ") == answer.split(" ")[::-1]


def test_words_are_counted_right() -> None:
    for question, answer in map(question_and_answer, draws(tasks.counting_words)):
        assert len(question.split(": ", 1)[1].split(" ")) == int(answer)


@pytest.mark.parametrize("task", [tasks.counting, tasks.long_counting])
def test_a_count_visits_every_number_once(task: tasks.Task) -> None:
    for question, answer in map(question_and_answer, draws(task)):
        first, last = numbers_in(question)
        assert answer.split(", ") == [str(number) for number in range(first, last + 1)]


def test_facts_written_as_json_are_the_facts_told() -> None:
    for question, answer in map(question_and_answer, draws(tasks.writing_json)):
        told = dict(fact.split(" ", 1) for fact in question.split(": ", 1)[1].split(", "))
        assert {key: str(value) for key, value in json.loads(answer).items()} == told


def test_a_tool_call_names_an_offered_tool_and_fills_each_of_its_parameters() -> None:
    for exchange in draws(tasks.tool_call):
        request, answer = through_json(exchange.messages)[:2]
        call = answer["tool_calls"][0]["function"]
        offered = {tool["function"]["name"]: tool["function"] for tool in through_json(exchange.tools)}
        parameters = offered[call["name"]]["parameters"]["properties"]
        arguments = json.loads(call["arguments"])
        assert arguments.keys() == parameters.keys()
        for name, value in arguments.items():
            assert isinstance(value, int if parameters[name]["type"] == "integer" else str)
            assert str(value) in request["content"]


def test_a_tool_that_adds_answers_with_the_sum() -> None:
    add = next(kind for kind in TOOL_KINDS if "add" in kind.names)
    assert add.draw_result(Random(0), {"a": 40, "b": 2}) == 42


def test_one_pair_in_ten_is_held_out_in_both_orders() -> None:
    held_out = set(held_out_pairs())
    assert 0.08 < len(held_out) / LIMIT**2 < 0.12
    assert held_out == {(b, a) for a, b in held_out}


def test_training_pairs_are_never_held_out() -> None:
    rng = Random(1)
    assert not any(is_held_out(*training_pair(rng)) for _ in range(20_000))


@pytest.mark.parametrize("mix", [SUMS_FIRST, EVERYTHING])
def test_held_out_sums_are_asked_nowhere_in_the_training_text(mix: Mix) -> None:
    asked = re.compile(r"(\d+)(?: ?\+ ?| plus | and )(\d+)")
    pairs = [
        (int(a), int(b)) for document in documents(mix, 3000) for a, b in asked.findall(text_of(document))
    ]
    assert len(pairs) > 3000
    assert not {pair for pair in pairs if max(pair) < LIMIT and is_held_out(*pair)}


def test_the_same_seed_gives_the_same_text() -> None:
    assert documents(EVERYTHING, 200) == documents(EVERYTHING, 200)


def test_the_model_learns_the_assistants_turns_and_their_ends_and_nothing_else_of_a_chat() -> None:
    exchange = Exchange(
        (
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "1 + 1"},
            {"role": "assistant", "content": "2"},
        )
    )
    document = Corpus(chat_template(MODEL_PATH), EVERYTHING, seed=0).render([exchange])
    assert [segment.text for segment in document if segment.learned] == ["Hello!<|im_end|>", "2<|im_end|>"]
    assert "<|im_start|>user\nHi<|im_end|>" in text_of(document)
