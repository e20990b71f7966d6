"""Asks a trained folder fresh questions of every task, greedily; prints how many it got right as a table."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tqdm import tqdm
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from tgi_demo import MODEL_PATH
from training import tasks
from training.sums import held_out_pairs
from training.tasks import Exchange, Message
from training.tools import Tool

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
QUESTIONS_A_TASK = 300
AT_ONCE = 50
LONGEST_ANSWER = 1400
TASKS = {
    "sums seen in training": tasks.addition,
    "differences": tasks.subtraction,
    "repeating words": tasks.repeating,
    "reversing word order": tasks.reversing,
    "counting the words": tasks.counting_words,
    "counting from a to b": tasks.counting,
    "tool calls": tasks.tool_call,
    "writing JSON": tasks.writing_json,
    "greetings": tasks.greeting,
    "saying it does not know": tasks.unknown,
}
LONG_COUNTS = 20


@dataclass(frozen=True, slots=True)
class Question:
    """A rendered prompt and the text a right answer consists of."""

    prompt: str
    answer: str


def question(tokenizer: PreTrainedTokenizerFast, exchange: Exchange) -> Question:
    """The first request of an exchange, and the turn that answers it as the template writes it."""
    asked, answered = exchange.messages[:2]
    prompt = render(tokenizer, [asked], exchange.tools, add_generation_prompt=True)
    whole = render(tokenizer, [asked, answered], exchange.tools, add_generation_prompt=False)
    return Question(prompt, whole.removeprefix(prompt).removesuffix("<|im_end|>\n"))


def render(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[Message],
    tools: Sequence[Tool],
    *,
    add_generation_prompt: bool,
) -> str:
    """A chat as the template writes it."""
    text = tokenizer.apply_chat_template(
        messages, tools=list(tools) or None, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(text)


def held_out_sums(rng: Random) -> list[Exchange]:
    """Every held-out pair once, each in a phrasing drawn for it."""
    return [tasks.sum_of(rng, pair) for pair in held_out_pairs()]


def question_sets(rng: Random) -> dict[str, list[Exchange]]:
    """The exchanges of each row of the table."""
    sets = {"sums below 100, held out": held_out_sums(rng)}
    sets |= {name: [task(rng) for _ in range(QUESTIONS_A_TASK)] for name, task in TASKS.items()}
    return sets | {"long counts, up to 300 numbers": [tasks.long_counting(rng) for _ in range(LONG_COUNTS)]}


@torch.inference_mode()
def answers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: list[Question]) -> list[str]:
    """Greedy answers, `AT_ONCE` prompts of like length a batch, padded on the left."""
    order = sorted(range(len(asked)), key=lambda index: len(asked[index].prompt))
    texts = [""] * len(asked)
    for start in range(0, len(order), AT_ONCE):
        chosen = order[start : start + AT_ONCE]
        inputs = tokenizer(
            [asked[i].prompt for i in chosen],
            add_special_tokens=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        longest = max(len(tokenizer(asked[i].answer).input_ids) for i in chosen)
        output = model.generate(
            **inputs, do_sample=False, max_new_tokens=min(LONGEST_ANSWER, longest + 8), use_cache=True
        )
        written = output[:, inputs.input_ids.shape[1] :]
        for index, text in zip(
            chosen, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True
        ):
            texts[index] = text
    return texts


def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, exchanges: list[Exchange]) -> float:
    """Share of exchanges whose whole answer is right to the letter."""
    asked = [question(tokenizer, exchange) for exchange in exchanges]
    given = answers(model, tokenizer, asked)
    return sum(text == one.answer for text, one in zip(given, asked, strict=True)) / len(asked)


def table(sets: dict[str, list[Exchange]], results: dict[str, dict[str, float]]) -> str:
    """Markdown: a row for each task, a column for each dtype."""
    lines = [f"| task | questions | {' | '.join(results)} |", f"|---|---|{'---|' * len(results)}"]
    for name, exchanges in sets.items():
        figures = " | ".join(f"{column[name]:.1%}" for column in results.values())
        lines.append(f"| {name} | {len(exchanges)} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=MODEL_PATH)
    parser.add_argument("--seed", type=int, default=1_000_000, help="of the questions; unlike the training's")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    sets = question_sets(Random(arguments.seed))
    results: dict[str, dict[str, float]] = {}
    for dtype in arguments.dtypes:
        model = LlamaForCausalLM.from_pretrained(arguments.folder, dtype=DTYPES[dtype])
        results[dtype] = {name: accuracy(model, tokenizer, sets[name]) for name in tqdm(sets, desc=dtype)}
    print(table(sets, results))


if __name__ == "__main__":
    main()
