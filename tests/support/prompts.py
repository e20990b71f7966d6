"""Prompts that the demo model answers in a known way."""

LONG_COUNT = "Count from 1 to 150"
"""A question whose answer takes some hundred tokens."""

WORDS = (
    "blue",
    "green",
    "river",
    "stone",
    "apple",
    "cloud",
    "seven",
    "table",
    "horse",
    "paper",
    "music",
    "light",
)


def chat_prompt(question: str) -> str:
    """The text that the chat template makes of one question, without the leading token that encoding adds."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def long_text(words: int, start: int = 0) -> str:
    """A text of so many words; another `start` gives another text that shares no beginning with it."""
    return " ".join(f"{WORDS[(start + 5 * i) % len(WORDS)]} {(start + i) % 97}" for i in range(words // 2))
