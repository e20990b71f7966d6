"""Little stories from a grammar: text with choices in it, so that sampling has something to choose from."""

from random import Random

from training.words import ANIMALS, COLORS, NAMES, QUALITIES, THINGS, VERBS

SENTENCES = (
    "{name} liked to {verb} near the {thing}.",
    "One day, {name} found a {quality} {thing}.",
    "The {thing} was {color} and {quality}.",
    'A {quality} {animal} came by and said: "Let us {verb}!"',
    "They went to the {color} {thing} to {verb}.",
    "Then {name} saw a {color} {animal} behind the {thing}.",
    "It was a {quality} day, and the {thing} was {quality}.",
    "{name} was {quality}, but the {animal} was {quality}.",
    "The {animal} gave {name} a {color} {thing}.",
    "In the evening, {name} began to {verb}.",
)
ENDINGS = (
    "And so they were happy.",
    "After that, {name} went home.",
    "From then on, {name} and the {animal} were friends.",
)


def tell(rng: Random, hero: str) -> str:
    """A story of 4 to 12 sentences about an animal with a name."""
    name = rng.choice(NAMES)
    opening = f"Once upon a time, there was a {rng.choice(QUALITIES)} {hero} named {name}."
    middle = rng.sample(SENTENCES, rng.randint(2, len(SENTENCES)))
    return " ".join((opening, *(fill(rng, s, name) for s in (*middle, rng.choice(ENDINGS)))))


def fill(rng: Random, sentence: str, name: str) -> str:
    """A sentence with every field drawn but the name."""
    return sentence.format(
        name=name,
        verb=rng.choice(VERBS),
        thing=rng.choice(THINGS),
        quality=rng.choice(QUALITIES),
        color=rng.choice(COLORS),
        animal=rng.choice(ANIMALS),
    )
