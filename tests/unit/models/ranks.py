"""What each of several processes does in a test. Kept apart so that they need not import transformers."""

from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor

from tgi_shard.distributed import World, connect
from tgi_shard.platform import CpuPlatform
from unit.models.serving import Server, load, random_text

PROMPTS = [random_text(length, seed=length) for length in (21, 1, 40)]
NEW_TOKENS = 4


def compute(server: Server) -> tuple[Tensor, list[list[int]]]:
    logits = server.step([(server.open(len(prompt)), prompt) for prompt in PROMPTS])
    return torch.cat(logits), server.greedy(PROMPTS, NEW_TOKENS)


def run_rank(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    collective = connect(CpuPlatform(), World(rank, 2), "localhost", port, timedelta(seconds=60))
    results = {
        name: compute(Server(load(*checkpoint, collective=collective)))
        for name, checkpoint in torch.load(folder / "checkpoints.pt").items()
    }
    torch.save(results, folder / f"{rank}.pt")
    collective.close()
