"""Turns documents into rows of token ids, packed one after the other, with the positions to learn marked."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from tokenizers import Tokenizer

from training.corpus import Document

IGNORED = -100
DOCUMENTS_AT_ONCE = 256


class Batch(NamedTuple):
    """The rows of a step.

    Attributes:
        ids: token ids, [rows, length].
        targets: for each position the token to predict, or IGNORED, [rows, length].
    """

    ids: torch.Tensor
    targets: torch.Tensor


class Encoded(NamedTuple):
    """Token ids, and for each whether the model learns to write it."""

    ids: list[int]
    learned: list[bool]


def encode(documents: list[Document], tokenizer: Tokenizer) -> list[Encoded]:
    """Token ids of documents, each segment's tokens marked as it is."""
    texts = [segment.text for document in documents for segment in document]
    encodings = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    encoded = []
    for document in documents:
        pieces = [(next(encodings).ids, segment.learned) for segment in document]
        ids = [token for tokens, _ in pieces for token in tokens]
        learned = [flag for tokens, flag in pieces for _ in tokens]
        encoded.append(Encoded(ids, learned))
    return encoded


class Stream:
    """An endless supply of batches. Each row begins with a document and cuts its last one off."""

    def __init__(self, corpus: Iterator[Document], tokenizer: Tokenizer) -> None:
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.encoded: deque[Encoded] = deque()

    def take(self, rows: int, length: int) -> Batch:
        """The next rows."""
        filled = [self.row(length + 1) for _ in range(rows)]
        ids = torch.tensor([row.ids for row in filled])
        targets = torch.where(torch.tensor([row.learned for row in filled]), ids, IGNORED)
        return Batch(ids[:, :-1].contiguous(), targets[:, 1:].contiguous())

    def row(self, length: int) -> Encoded:
        """One row of whole documents but the last."""
        row = Encoded([], [])
        while len(row.ids) < length:
            if not self.encoded:
                self.encoded.extend(encode(list(islice(self.corpus, DOCUMENTS_AT_ONCE)), self.tokenizer))
            document = self.encoded.popleft()
            row.ids.extend(document.ids)
            row.learned.extend(document.learned)
        return Encoded(row.ids[:length], row.learned[:length])
