"""The kept rows of a batch against a layout made from the sequences themselves."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgi_shard.engine.request import EngineRequest
from tgi_shard.engine.rows import RunningRows
from tgi_shard.engine.sequence import Sequence, plan_chunks, start_sequence
from tgi_shard.engine.stopping import StoppingCriteria
from tgi_shard.sampling.parameters import SamplingParameters
from tgi_shard.text.tokenizer import ShardTokenizer

CPU = torch.device("cpu")
BLOCK_SIZE = 4


class NoText:
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return []

    def decode(self, ids: object, *, skip_special_tokens: bool) -> str:
        return ""


TOKENIZER = ShardTokenizer(NoText(), special_ids=frozenset(), eos_token_id=None, model_max_length=None)


def make_sequence(number: int, length: int, cached: int) -> Sequence:
    blocks = -(-(length + 40) // BLOCK_SIZE)
    return start_sequence(
        EngineRequest(
            id=number,
            prompt_ids=tuple(range(1000 * number, 1000 * number + length)),
            sampling=SamplingParameters(),
            stopping=StoppingCriteria(40, (), True, frozenset()),
            blocks=tuple(range(100 * number, 100 * number + blocks)),
            cached_length=min(cached, length - 1),
        ),
        TOKENIZER,
    )


def check_step(rows: RunningRows, sequences: list[Sequence], next_token: Iterator[int]) -> None:
    """Take one step, and compare what is computed with what the sequences say."""
    rows.arrange(sequences)
    step = rows.plan(BLOCK_SIZE)
    ids, slots, drawing = [], [], []
    for row, each in enumerate(sequences):
        for position in range(each.computed, each.computed + each.query_length):
            ids.append(each.token_ids[position])
            block = each.request.blocks[position // BLOCK_SIZE]
            slots.append(block * BLOCK_SIZE + position % BLOCK_SIZE)
        if each.query_length == each.remaining:
            drawing.append(row)
    assert step.input_ids.tolist() == ids
    assert step.metadata.slots.tolist() == slots
    assert step.metadata.query_lengths.tolist() == [each.query_length for each in sequences]
    assert step.drawing.tolist() == drawing
    assert step.generated.tolist() == [sequences[row].generated for row in drawing]
    tokens = [next(next_token) for _ in drawing]
    rows.advance(step, torch.tensor(tokens, dtype=torch.int64))
    for each in sequences:
        each.computed += each.query_length
    for row, token in zip(drawing, tokens, strict=True):
        sequences[row].token_ids.append(token)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_kept_rows_are_laid_out_as_their_sequences_are(data: st.DataObject) -> None:
    rows, next_token, numbers = RunningRows(CPU), itertools.count(500_000), itertools.count(1)
    running: list[Sequence] = []
    for _ in range(data.draw(st.integers(1, 8))):
        running += [
            make_sequence(next(numbers), data.draw(st.integers(1, 20)), data.draw(st.integers(0, 19)))
            for _ in range(data.draw(st.integers(0, 3)))
        ]
        order = data.draw(st.permutations(running))
        running = list(order[: data.draw(st.integers(0, len(order)))])
        if running:
            plan_chunks(running, data.draw(st.integers(1, 30)))
            check_step(rows, running, next_token)


def test_a_step_that_was_not_finished_is_laid_out_again() -> None:
    rows, next_token = RunningRows(CPU), itertools.count(500_000)
    first, second = make_sequence(1, 6, 0), make_sequence(2, 9, 0)
    check_step(rows, [first], next_token)
    first.query_length = 1
    rows.arrange([first, second])
    rows.plan(BLOCK_SIZE)
    check_step(rows, [first], next_token)
    assert first.token_ids[-2:] == [500_000, 500_001]


def test_rows_that_stay_are_not_read_again() -> None:
    rows = RunningRows(CPU)
    kept = make_sequence(1, 3, 0)
    check_step(rows, [kept, make_sequence(2, 5, 0)], itertools.count(500_000))
    kept.query_length = 1
    kept.token_ids = []
    rows.arrange([kept])
    step = rows.plan(BLOCK_SIZE)
    assert step.input_ids.tolist() == [500_000]
    assert np.array_equal(step.contexts, [4])
