"""Texts drawn at random under a grammar, over the demo model's vocabulary."""

import numpy as np
import torch

from tgi_common.grammar import Grammar, GrammarKind
from tgi_shard.grammar.masks import MaskWorker
from tgi_shard.grammar.matcher import CompiledGrammar
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.sampling.sampler import BatchSampler, SamplerRow
from tgi_shard.text.tokenizer import ShardTokenizer

EOS_IDS = frozenset({1, 3})
WIDTH = 1400
"""Of the logits: more than the tokenizer has tokens."""

CPU = torch.device("cpu")


def json_grammar(schema: str) -> Grammar:
    return Grammar(GrammarKind.JSON, schema)


def regex_grammar(pattern: str) -> Grammar:
    return Grammar(GrammarKind.REGEX, pattern)


def lark_grammar(text: str) -> Grammar:
    return Grammar(GrammarKind.LARK, text)


def draw_text(
    grammar: CompiledGrammar, tokenizer: ShardTokenizer, seed: int, sampling: SamplingParameters
) -> list[int]:
    """Draw from random logits that like to close what is open, until the end: the tokens before it."""
    liked = torch.zeros(WIDTH)
    for text in ('"', "}", "]", '"}'):
        if len(ids := tokenizer.encode(text, False)) == 1:
            liked[ids[0]] = 3.0
    liked[list(EOS_IDS)] = 4.0
    random = torch.Generator().manual_seed(seed)
    sampler, worker, matcher = BatchSampler(WIDTH, CPU), MaskWorker(), grammar.start()
    sampler.rearrange(np.array([0]), [SamplerRow(sampling, [5])])
    ids: list[int] = []
    while len(ids) < 500:
        logits = torch.randn(1, WIDTH, generator=random) * 2 + liked
        worker.begin([matcher], np.array([0])).result().apply_(logits)
        sampled = sampler.sample(logits, np.array([len(ids)]))
        sampler.observe(sampled.token_ids)
        matcher.advance(token_id := int(sampled.token_ids[0]))
        if token_id in EOS_IDS:
            return ids
        ids.append(token_id)
    raise AssertionError(f"no end after {tokenizer.decode(ids, False)!r}")
