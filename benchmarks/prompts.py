"""Makes the prompts of a case: random words, as many as give the length in tokens that the case names."""

import random
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.cases import Case, Work
from benchmarks.vocabulary import WORDS


class PromptMaker:
    """Writes prompts for one model and one round of a benchmark.

    A prompt depends on the seed, the round, the case and its place in it, so in a round every server is sent
    the same. Nothing but what a case shares on purpose was sent before: a prefix cache finds nothing else.
    """

    def __init__(self, checkpoint: Path, seed: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self._seed = seed
        # Those that the tokenizer puts around every text count as part of the prompt.
        self._special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def warmup(self, case: Case, number: int) -> Work:
        """Make one request like the case's, for round `number`, with none of its text."""
        text = self._text(case.prompt_tokens - self._special_tokens, self._source("warmup", case, number))
        return Work((text,), min(case.output_tokens, 8), streams=1)

    def work(self, case: Case, number: int) -> Work:
        """Make all requests of the case for round `number`."""
        shared = self._text(case.shared_tokens, self._source("shared", case, number))
        source = self._source("own", case, number)
        own = (self._text(case.own_tokens - self._special_tokens, source) for _ in range(case.requests))
        prompts = tuple(f"{shared} {text}" if shared else text for text in own)
        return Work(prompts, case.output_tokens, case.streams)

    def _source(self, part: str, case: Case, number: int) -> random.Random:
        return random.Random(f"{self._seed} {number} {case.name} {part}")

    def _text(self, tokens: int, source: random.Random) -> str:
        """Join words until they make `tokens` tokens, or as close below as whole words come."""
        words: list[str] = []
        while tokens > 0:
            # A word is at least one token: this many cannot be too many, unless words take several.
            drawn = source.choices(WORDS, k=tokens)
            sizes = [len(self._tokenizer.encode(f" {word}", add_special_tokens=False)) for word in drawn]
            for word, size in zip(drawn, sizes, strict=True):
                if size > tokens:
                    return " ".join(words)
                words.append(word)
                tokens -= size
        return " ".join(words)
