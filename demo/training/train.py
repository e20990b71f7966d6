"""Trains the demo model: `python -m training.train` writes the whole model folder, reproducibly by seed."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tgi_demo import MODEL_PATH
from training.corpus import BEGIN_OF_TEXT, EVERYTHING, SUMS_FIRST, Corpus, Segment
from training.model import new_model, save
from training.packing import IGNORED, Batch, Stream, encode
from training.sums import held_out_pairs
from training.tokenizer import build, chat_template

PROBE_EVERY = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to train.

    Each step takes `tokens`, as rows of `length` or, every `long_every` steps, of `long_length`.
    The first `sums_share` of the steps show mostly sums.
    """

    steps: int
    seed: int
    compiled: bool
    tokens: int = 8192
    length: int = 512
    long_length: int = 2048
    long_every: int = 8
    sums_share: float = 0.4
    learning_rate: float = 3e-3
    warmup: int = 60
    weight_decay: float = 0.05


def optimizers(model: LlamaForCausalLM, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon (https://kellerjordan.github.io/posts/muon/) for the layers' matrices, AdamW for the rest."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(
            matrices, lr=plan.learning_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def rate(step: int, plan: Plan) -> float:
    """Share of the learning rate at a step: linear warmup, then a cosine down to nothing."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - plan.warmup) / max(1, plan.steps - plan.warmup)))


def loss_of(model: LlamaForCausalLM, body: Callable[..., Any], batch: Batch) -> torch.Tensor:
    """Mean loss over the learned positions; logits are computed only there."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = body(input_ids=batch.ids, use_cache=False).last_hidden_state
        learned = batch.targets != IGNORED
        logits = model.lm_head(hidden[learned])
    return torch.nn.functional.cross_entropy(logits.float(), batch.targets[learned])


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, plan: Plan) -> None:
    """Runs the plan; every so often it saves, and the bar tells how many held-out sums are right."""
    template = chat_template(folder)
    sums_first = Stream(iter(Corpus(template, SUMS_FIRST, plan.seed)), tokenizer.backend_tokenizer)
    everything = Stream(iter(Corpus(template, EVERYTHING, plan.seed + 1)), tokenizer.backend_tokenizer)
    body = torch.compile(model.model, dynamic=False) if plan.compiled else model.model
    chain = optimizers(model, plan)
    progress = tqdm(range(plan.steps), mininterval=5)
    for step in progress:
        stream = sums_first if step < plan.sums_share * plan.steps else everything
        length = plan.long_length if step % plan.long_every == plan.long_every - 1 else plan.length
        loss = loss_of(model, body, stream.take(plan.tokens // length, length))
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chain:
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * rate(step, plan)
            optimizer.step()
            optimizer.zero_grad()
        if step % PROBE_EVERY == PROBE_EVERY - 1:
            progress.set_postfix(loss=f"{loss.item():.3f}", held_out_sums=f"{probe(model, tokenizer):.1%}")
            save(model, tokenizer, folder)


@torch.no_grad()
def probe(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Share of the held-out sums whose every answer token is the likeliest, as greedy decoding needs it."""
    sums = [
        [Segment(f"{BEGIN_OF_TEXT}{a} + {b} =", learned=False), Segment(f" {a + b}", learned=True)]
        for a, b in held_out_pairs()
    ]
    rows = encode(sums, tokenizer.backend_tokenizer)
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows])
    learned = torch.tensor([row.learned + [False] * (longest - len(row.ids)) for row in rows])
    right = model(input_ids=ids[:, :-1], use_cache=False).logits.argmax(-1) == ids[:, 1:]
    return float((right | ~learned[:, 1:]).all(1).float().mean())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--folder", type=Path, default=MODEL_PATH, help="written to; must hold chat_template.jinja"
    )
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    tokenizer = build(arguments.folder, arguments.seed)
    model = new_model(tokenizer)
    train(model, tokenizer, arguments.folder, Plan(arguments.steps, arguments.seed, arguments.compile))
    save(model, tokenizer, arguments.folder)


if __name__ == "__main__":
    main()
