"""The process behind the peer `transformers`: loads a model, then generates for each line of JSON it gets.

Run as `python -m benchmarks.servers.transformers_worker FOLDER DTYPE`. Standard output has only the answers.
"""

import sys
import time
from typing import Any

import msgspec


class Batch(msgspec.Struct, frozen=True):
    """Prompts to generate for at once."""

    prompts: tuple[str, ...]
    output_tokens: int


class Ready(msgspec.Struct, frozen=True):
    """Says that the model is loaded."""

    ready: bool = True


class BatchRecord(msgspec.Struct, frozen=True):
    """When each step of a batch ended (seconds of `time.perf_counter`), and the length of each prompt."""

    steps: tuple[float, ...]
    prompt_tokens: tuple[int, ...]


class Generator:
    """A model and its tokenizer, for greedy static batches that never end early."""

    def __init__(self, folder: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self._tokenizer.pad_token = self._tokenizer.eos_token
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(self._device)
        # Without an end-of-sequence id, nothing ends a sequence before its length.
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = self._tokenizer.pad_token_id
        self._model = model

    def generate(self, batch: Batch) -> BatchRecord:
        """Generate for a batch, greedily, exactly as many tokens as asked for."""
        encoded = self._tokenizer(list(batch.prompts), return_tensors="pt", padding=True).to(self._device)
        steps: list[float] = []

        def stamp(input_ids: Any, scores: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - transformers' own
            steps.append(time.perf_counter())
            return input_ids.new_zeros(input_ids.shape[0], dtype=bool)

        self._model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=batch.output_tokens,
            do_sample=False,
            stopping_criteria=[stamp],
        )
        return BatchRecord(tuple(steps), tuple(encoded["attention_mask"].sum(dim=1).tolist()))


def main() -> None:
    """Serve standard input until it closes."""
    folder, dtype = sys.argv[1:]
    generator = Generator(folder, dtype)
    _send(Ready())
    for line in sys.stdin.buffer:
        _send(generator.generate(msgspec.json.decode(line, type=Batch)))


def _send(answer: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
