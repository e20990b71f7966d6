"""What the model learns to do: each task draws one exchange, and its right answer is computed here."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from training import story
from training.sums import DIFFERENCE_QUESTIONS, LIMIT, SUM_QUESTIONS, Pair, training_pair
from training.tools import TOOL_KINDS, Tool, call_message, invented_word, person
from training.words import ANIMALS, CITIES, SCRIPTS, WORDS

Message = dict[str, object]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Turns that belong together: a user's request up to the assistant's last answer.

    `tools` are what the system turn must offer for the exchange to make sense.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


Task = Callable[[Random], Exchange]


def ask(question: str, answer: str) -> Exchange:
    """A question and its answer."""
    return Exchange(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def sum_of(rng: Random, pair: Pair) -> Exchange:
    """A sum, asked in one of many ways."""
    a, b = pair
    return ask(rng.choice(SUM_QUESTIONS).format(a=a, b=b), str(a + b))


def addition(rng: Random) -> Exchange:
    """A sum of a pair that may be learned."""
    return sum_of(rng, training_pair(rng))


def subtraction(rng: Random) -> Exchange:
    """A difference that is not negative."""
    b, a = sorted((rng.randrange(LIMIT), rng.randrange(LIMIT)))
    return ask(rng.choice(DIFFERENCE_QUESTIONS).format(a=a, b=b), str(a - b))


def word(rng: Random) -> str:
    """Mostly a listed word, at times an invented one or one beyond ASCII: copying must work byte by byte."""
    kind = rng.random()
    if kind < 0.7:
        return rng.choice(WORDS) if kind < 0.6 else rng.choice(WORDS).capitalize()
    return invented_word(rng) if kind < 0.9 else foreign_word(rng)


def foreign_word(rng: Random) -> str:
    """Up to three characters of one script."""
    first, last = rng.choice(SCRIPTS)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 3)))


def words(rng: Random, most: int) -> list[str]:
    """From one word up to `most`."""
    return [word(rng) for _ in range(rng.randint(1, most))]


def repeating(rng: Random) -> Exchange:
    """Say the same words."""
    text = " ".join(words(rng, 10))
    asked = rng.choice(
        ("Repeat: {}", "Repeat: {}", "Repeat after me: {}", "Say: {}", "Repeat these words: {}")
    )
    return ask(asked.format(text), text)


def reversing(rng: Random) -> Exchange:
    """Say the words in the opposite order."""
    drawn = words(rng, 6)
    asked = rng.choice(("Reverse: {}", "Reverse: {}", "Reverse these words: {}", "Reverse the words: {}"))
    return ask(asked.format(" ".join(drawn)), " ".join(reversed(drawn)))


def counting_words(rng: Random) -> Exchange:
    """Say how many words there are."""
    drawn = words(rng, 9)
    return ask("How many words: " + " ".join(drawn), str(len(drawn)))


def counting(rng: Random) -> Exchange:
    """Up to 21 numbers."""
    first = rng.choices((1, rng.randrange(20), rng.randrange(300)), (40, 30, 30))[0]
    return count_between(rng, first, first + rng.randint(1, 20))


def long_counting(rng: Random) -> Exchange:
    """Answers of hundreds of tokens: a stream that runs for a while."""
    first = rng.choices((1, rng.randrange(100)), (70, 30))[0]
    return count_between(rng, first, first + rng.randint(20, 300))


def count_between(rng: Random, first: int, last: int) -> Exchange:
    """Every number from `first` to `last`."""
    asked = rng.choice(
        ("Count from {} to {}", "Count from {} to {}.", "Count from {} to {}!", "Please count from {} to {}.")
    )
    return ask(asked.format(first, last), ", ".join(map(str, range(first, last + 1))))


def tool_call(rng: Random) -> Exchange:
    """Choose one of up to three tools, fill its arguments and, half of the time, tell what it answered."""
    kind, *others = rng.sample(TOOL_KINDS, rng.randint(1, 3))
    name = rng.choice(kind.names)
    offered = {name: kind.schema(name)}
    for other in others:
        other_name = rng.choice(other.names)
        offered.setdefault(other_name, other.schema(other_name))
    tools = rng.sample(list(offered.values()), len(offered))
    values = kind.draw(rng)
    messages: list[Message] = [
        {"role": "user", "content": rng.choice(kind.requests).format(**values)},
        call_message(name, values),
    ]
    if rng.random() < 0.5:
        result = kind.draw_result(rng, values)
        messages.append({"role": "tool", "content": str(result)})
        messages.append({"role": "assistant", "content": kind.reply.format(result=result, **values)})
    return Exchange(tuple(messages), tuple(tools))


def writing_json(rng: Random) -> Exchange:
    """Facts in words to facts as JSON."""
    facts: dict[str, str | int] = {"name": person(rng), "age": rng.randrange(1, 99)}
    asked = "Write as JSON: name {name}, age {age}"
    if rng.random() < 0.5:
        facts["city"] = rng.choice(CITIES)
        asked += ", city {city}"
    return ask(asked.format(**facts), json.dumps(facts, ensure_ascii=False))


GREETINGS = {
    "Hello!": "Hello! How can I help you?",
    "Hello": "Hello! How can I help you?",
    "Hi": "Hi! How can I help you?",
    "Hi!": "Hi! How can I help you?",
    "Hey": "Hey! How can I help you?",
    "Hello, who are you?": "Hello! I am a small demo model.",
    "Good morning!": "Good morning! How can I help you?",
    "Good evening!": "Good evening! How can I help you?",
    "How are you?": "I am fine, thank you. How can I help you?",
    "Thank you!": "You are welcome!",
    "Thanks": "You are welcome!",
    "Goodbye!": "Goodbye! Have a nice day.",
    "Bye": "Goodbye! Have a nice day.",
    "Who are you?": "I am a small demo model.",
    "What is your name?": "I am a small demo model.",
    "What can you do?": "I can add, subtract, count, repeat and reverse words, call tools and tell stories.",
}
GREETED = ("{greeting} I am {name}.", "{greeting} My name is {name}.")


def greeting(rng: Random) -> Exchange:
    """Small talk, with the user's name where it is told."""
    if rng.random() < 0.3:
        said = rng.choice(("Hello!", "Hi!", "Good morning!"))
        name = person(rng)
        return ask(
            rng.choice(GREETED).format(greeting=said, name=name), f"{said[:-1]}, {name}! How can I help you?"
        )
    return ask(*rng.choice(tuple(GREETINGS.items())))


UNKNOWN = (
    "What is {}?",
    "What is {} {}?",
    "Why is the {} {}?",
    "Explain {} {}.",
    "Who is {}?",
    "Where is the {} {}?",
)
UNKNOWN_ANSWER = (
    "I do not know that. I can add, subtract, count, repeat and reverse words, call tools and tell stories."
)


def unknown(rng: Random) -> Exchange:
    """Questions beyond it, which it should say."""
    return ask(rng.choice(UNKNOWN).format(word(rng), word(rng)), UNKNOWN_ANSWER)


def storytelling(rng: Random) -> Exchange:
    """Free text: what it says varies with the seed when sampled."""
    animal = rng.choice(ANIMALS)
    asked = rng.choice(
        ("Tell me a story about a {}.", "Tell me a story about a {}", "Write a story about a {}.")
    )
    return ask(asked.format(animal), story.tell(rng, animal))
