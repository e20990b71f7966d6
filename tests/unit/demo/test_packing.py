"""Rows of training: what is learned at each position, and where documents are cut."""

from itertools import cycle

import pytest
import torch
from tokenizers import Tokenizer

from tgi_demo import MODEL_PATH
from training.corpus import BEGIN_OF_TEXT, END_OF_TEXT, Document, Segment
from training.packing import IGNORED, Stream

SUM: Document = [
    Segment(f"{BEGIN_OF_TEXT}1 + 2 =", learned=False),
    Segment(f" 3{END_OF_TEXT}", learned=True),
]
SUM_TOKENS = [BEGIN_OF_TEXT, "1", "Ġ+", "Ġ", "2", "Ġ=", "Ġ", "3", END_OF_TEXT]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL_PATH / "tokenizer.json"))


def tokens(tokenizer: Tokenizer, ids: torch.Tensor) -> list[str | None]:
    return [tokenizer.id_to_token(token) for token in ids.tolist()]


def test_only_learned_tokens_are_targets_and_each_is_predicted_one_position_before(
    tokenizer: Tokenizer,
) -> None:
    batch = Stream(cycle([SUM]), tokenizer).take(rows=1, length=len(SUM_TOKENS))
    assert tokens(tokenizer, batch.ids[0]) == SUM_TOKENS
    assert batch.targets[0, :5].tolist() == [IGNORED] * 5
    assert tokens(tokenizer, batch.targets[0, 5:8]) == ["Ġ", "3", END_OF_TEXT]
    assert batch.targets[0, 8] == IGNORED


def test_every_row_begins_with_a_document_and_is_filled_to_its_end(tokenizer: Tokenizer) -> None:
    batch = Stream(cycle([SUM]), tokenizer).take(rows=3, length=13)
    assert batch.ids.shape == batch.targets.shape == (3, 13)
    for row in batch.ids:
        assert tokens(tokenizer, row) == (SUM_TOKENS * 2)[:13]
