"""Mixes tasks into training documents: chats as the template renders them, and plain text."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from jinja2 import Template

from training import story
from training.sums import LIMIT, training_pair
from training.tasks import (
    Exchange,
    Message,
    Task,
    addition,
    counting,
    counting_words,
    greeting,
    long_counting,
    repeating,
    reversing,
    storytelling,
    subtraction,
    tool_call,
    unknown,
    writing_json,
)
from training.words import ANIMALS, CITIES, QUALITIES

BEGIN_OF_TEXT, END_OF_TEXT = "<|begin_of_text|>", "<|end_of_text|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
ASSISTANT_TURN = re.compile(rf"(?<={re.escape(TURN_START)}assistant\n).*?{re.escape(TURN_END)}", re.DOTALL)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a friendly helper. Answer briefly.",
    "Answer briefly.",
    "Be concise.",
)


class Segment(NamedTuple):
    """A piece of a document; the model is trained to write it only where `learned`."""

    text: str
    learned: bool


Document = list[Segment]


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each kind of document and, within chats, each task is drawn (relative weights)."""

    documents: dict[Callable[["Corpus"], Document], float]
    tasks: dict[Task, float]


class Corpus:
    """An endless stream of documents.

    Args:
        template: the chat template, compiled.
        mix: weights of documents and tasks.
        seed: the same seed gives the same documents.
    """

    def __init__(self, template: Template, mix: Mix, seed: int) -> None:
        self.template = template
        self.rng = Random(seed)
        self.mix = mix

    def __iter__(self) -> Iterator[Document]:
        kinds, weights = list(self.mix.documents), list(self.mix.documents.values())
        while True:
            yield self.rng.choices(kinds, weights)[0](self)

    def draw_task(self) -> Task:
        """A task, by the mix's weights."""
        return self.rng.choices(list(self.mix.tasks), list(self.mix.tasks.values()))[0]

    def render(self, exchanges: list[Exchange]) -> Document:
        """One chat of these exchanges, at times under a system prompt; the assistant's turns are learned."""
        messages: list[Message] = [message for exchange in exchanges for message in exchange.messages]
        tools = [tool for exchange in exchanges for tool in exchange.tools]
        if self.rng.random() < 0.3:
            messages.insert(0, {"role": "system", "content": system_prompt(self.rng)})
        text = self.template.render(messages=messages, tools=tools or None, bos_token=BEGIN_OF_TEXT)
        return split_turns(text)


def system_prompt(rng: Random) -> str:
    """What a chat may begin with."""
    if rng.random() < 0.5:
        return rng.choice(SYSTEM_PROMPTS)
    return f"You are a {rng.choice(QUALITIES)} {rng.choice(ANIMALS)} from {rng.choice(CITIES)}."


def split_turns(text: str) -> Document:
    """Cuts a rendered chat into what is given and what the assistant writes, its end of turn included."""
    document, position = [], 0
    for turn in ASSISTANT_TURN.finditer(text):
        document.append(Segment(text[position : turn.start()], learned=False))
        document.append(Segment(turn.group(), learned=True))
        position = turn.end()
    return [*document, Segment(text[position:], learned=False)]


def mixed_chat(corpus: Corpus) -> Document:
    """Several tasks in one conversation."""
    return corpus.render([corpus.draw_task()(corpus.rng) for _ in range(corpus.rng.randint(1, 6))])


def sums_chat(corpus: Corpus) -> Document:
    """Sums only, up to eight in a conversation."""
    return corpus.render([addition(corpus.rng) for _ in range(corpus.rng.randint(1, 8))])


def tool_chat(corpus: Corpus) -> Document:
    """A tool call, with small talk and, where no tool does arithmetic, sums around it."""
    exchange = tool_call(corpus.rng)
    around: list[Task] = [greeting, repeating, counting]
    if "integer" not in str(exchange.tools):
        around.append(addition)
    chat = [exchange]
    if corpus.rng.random() < 0.3:
        chat.insert(corpus.rng.randint(0, 1), corpus.rng.choice(around)(corpus.rng))
    return corpus.render(chat)


def long_chat(corpus: Corpus) -> Document:
    """Hundreds of tokens in one answer."""
    return corpus.render([long_counting(corpus.rng)])


def plain_sums(corpus: Corpus) -> Document:
    """Lines such as `12 + 7 = 19`: the densest way to show sums."""
    lines: Document = [Segment(BEGIN_OF_TEXT, learned=False)]
    for _ in range(corpus.rng.randint(1, 16)):
        a, b = training_pair(corpus.rng)
        lines += (
            Segment(f"{a} + {b} =", learned=False),
            Segment(f" {a + b}", learned=True),
            Segment("\n", learned=True),
        )
    lines[-1] = Segment(END_OF_TEXT, learned=True)
    return lines


def plain_question(corpus: Corpus) -> Document:
    """A question without a template, and its answer on the next line."""
    task = corpus.rng.choice((addition, addition, repeating, reversing, counting, subtraction, greeting))
    question, answer = (str(message["content"]) for message in task(corpus.rng).messages)
    if not question.endswith("= "):
        answer = (" " if question.endswith("=") else "\n") + answer
    return [Segment(BEGIN_OF_TEXT + question, learned=False), Segment(answer + END_OF_TEXT, learned=True)]


def plain_count(corpus: Corpus) -> Document:
    """A long list of numbers."""
    first = corpus.rng.randrange(3 * LIMIT)
    last = first + corpus.rng.randint(4, LIMIT)
    text = ", ".join(map(str, range(first, last)))
    return [Segment(BEGIN_OF_TEXT, learned=False), Segment(text + END_OF_TEXT, learned=True)]


def plain_story(corpus: Corpus) -> Document:
    """A story as plain text."""
    text = story.tell(corpus.rng, corpus.rng.choice(ANIMALS))
    return [Segment(BEGIN_OF_TEXT, learned=False), Segment(text + END_OF_TEXT, learned=True)]


CHAT_TASKS: dict[Task, float] = {
    addition: 30,
    subtraction: 8,
    repeating: 14,
    reversing: 14,
    counting: 8,
    counting_words: 4,
    writing_json: 5,
    greeting: 8,
    unknown: 3,
    storytelling: 2,
}
SUMS_FIRST = Mix(
    {
        mixed_chat: 15,
        sums_chat: 30,
        tool_chat: 6,
        plain_sums: 40,
        plain_question: 6,
        plain_count: 2,
        plain_story: 1,
    },
    CHAT_TASKS,
)
EVERYTHING = Mix(
    {
        mixed_chat: 40,
        sums_chat: 15,
        tool_chat: 10,
        long_chat: 2,
        plain_sums: 10,
        plain_question: 15,
        plain_count: 2,
        plain_story: 3,
    },
    CHAT_TASKS,
)
