"""The layout of a step, compared with one made token by token."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgi_shard.attention.metadata import AttentionMetadata, pad_block_tables

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sequence:
    prefix: int
    query: int
    blocks: list[int]


@st.composite
def steps(draw: st.DrawFn) -> tuple[list[Sequence], int]:
    block_size = draw(st.sampled_from([1, 4, 16]))
    sequences = []
    for _ in range(draw(st.integers(1, 6))):
        prefix, query = draw(st.integers(0, 40)), draw(st.integers(1, 30))
        count = -(-(prefix + query) // block_size) + draw(st.integers(0, 2))
        sequences.append(
            Sequence(prefix, query, draw(st.lists(st.integers(1, 99), min_size=count, max_size=count)))
        )
    return sequences, block_size


def build(sequences: list[Sequence], block_size: int) -> AttentionMetadata:
    tables = pad_block_tables([sequence.blocks for sequence in sequences], CPU)
    prefixes, queries = [s.prefix for s in sequences], [s.query for s in sequences]
    return AttentionMetadata.build(prefixes, queries, tables, block_size)


@given(steps())
@settings(max_examples=60, deadline=None)
def test_every_token_has_its_position_and_slot(step: tuple[list[Sequence], int]) -> None:
    sequences, block_size = step
    metadata = build(sequences, block_size)
    positions, slots, starts = [], [], [0]
    for sequence in sequences:
        for position in range(sequence.prefix, sequence.prefix + sequence.query):
            positions.append(position)
            slots.append(sequence.blocks[position // block_size] * block_size + position % block_size)
        starts.append(len(positions))
    assert metadata.position_ids.tolist() == positions
    assert metadata.slots.tolist() == slots
    assert metadata.query_starts.tolist() == starts
    assert metadata.query_lengths.tolist() == [sequence.query for sequence in sequences]
    assert metadata.context_lengths.tolist() == [sequence.prefix + sequence.query for sequence in sequences]


def test_single_tokens_are_laid_out_as_any_others() -> None:
    metadata = build([Sequence(17, 1, [3, 9]), Sequence(0, 1, [4]), Sequence(5, 1, [7, 8])], 16)
    assert metadata.position_ids.tolist() == [17, 0, 5]
    assert metadata.slots.tolist() == [9 * 16 + 1, 4 * 16, 7 * 16 + 5]
    assert metadata.query_starts.tolist() == [0, 1, 2, 3]


def test_block_tables_of_unequal_length_are_padded_with_block_0() -> None:
    assert pad_block_tables([[3], [4, 5, 6], []], CPU).tolist() == [[3, 0, 0], [4, 5, 6], [0, 0, 0]]


def test_kept_block_tables_are_used_as_they_are() -> None:
    tables = pad_block_tables([[3, 9]], CPU)
    assert AttentionMetadata.build([17], [1], tables, 16).block_tables is tables


@pytest.mark.parametrize(
    ("prefixes", "queries", "message"),
    [
        ([0], [0], "at least one token"),
        ([-1], [2], "prefix of zero or more"),
        ([], [], "got 0 prefixes, 0 queries, 1 block tables"),
        ([0, 0], [1, 1], "got 2 prefixes, 2 queries, 1 block tables"),
        ([30], [3], "hold 32 tokens a sequence, the longest one has 33"),
    ],
)
def test_a_step_that_cannot_be_is_refused(prefixes: list[int], queries: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionMetadata.build(prefixes, queries, pad_block_tables([[3, 9]], CPU), 16)
