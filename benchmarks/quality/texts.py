"""The texts that models are compared on: questions for the demo model, random words for a random one."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from benchmarks.vocabulary import WORDS
from tgi_demo import MODEL_PATH
from training import evaluate

QUESTIONS_A_TASK = 60
_HELD_OUT_SUMS = 200
_END_OF_TURN = "<|im_end|>"
_PROMPT_TOKENS, _ANSWER_TOKENS, _RANDOM_TEXTS = 32, 64, 24


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt and how it goes on, in tokens; a model is judged on the latter alone."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exam:
    """What one model is asked.

    Attributes:
        model: its name.
        checkpoint: its folder.
        texts: by task.
        answers_matter: whether a text's answer is the right one, or just some text.
        end_ids: tokens that end an answer.
    """

    model: str
    checkpoint: Path
    texts: Mapping[str, Sequence[Text]]
    answers_matter: bool
    end_ids: frozenset[int]


def demo_exam(seed: int) -> Exam:
    """Fresh questions of the tasks that the demo model learned; among them sums that it has never seen."""
    source = random.Random(seed)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
    tasks = {"sums, held out": source.sample(evaluate.held_out_sums(source), _HELD_OUT_SUMS)}
    for name, draw in evaluate.TASKS.items():
        tasks[name] = [draw(source) for _ in range(QUESTIONS_A_TASK)]

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False).input_ids)

    texts = {}
    for name, exchanges in tasks.items():
        questions = [evaluate.question(tokenizer, exchange) for exchange in exchanges]
        texts[name] = [Text(encode(each.prompt), encode(each.answer + _END_OF_TURN)) for each in questions]
    return Exam("tgi-demo", MODEL_PATH, texts, answers_matter=True, end_ids=frozenset(encode(_END_OF_TURN)))


def random_exam(model: str, checkpoint: Path, seed: int) -> Exam:
    """Random words, for a model that has learned nothing."""
    source = random.Random(seed)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    texts = []
    for _ in range(_RANDOM_TEXTS):
        words = source.choices(WORDS, k=_PROMPT_TOKENS + _ANSWER_TOKENS)
        ids = tokenizer.encode(" ".join(words)).ids
        texts.append(Text(tuple(ids[:_PROMPT_TOKENS]), tuple(ids[_PROMPT_TOKENS:])))
    return Exam(model, checkpoint, {"random words": texts}, answers_matter=False, end_ids=frozenset())
