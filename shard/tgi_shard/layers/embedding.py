"""Token embeddings and the output head, the vocabulary spread over the ranks."""

from torch import Tensor, nn

from tgi_shard.distributed import Collective
from tgi_shard.layers.loading import Part, WeightLoader
from tgi_shard.layers.partition import Span, split_vocabulary
from tgi_shard.ops.interface import EmbeddingMatrix, Matrix


class VocabularyEmbedding(nn.Module):
    """Looks tokens up: each rank knows some rows and contributes zeros for all others."""

    def __init__(self, table: EmbeddingMatrix, tokens: Span, collective: Collective) -> None:
        """Take this rank's rows, those of the tokens of a span."""
        super().__init__()
        self.table = table
        self.tokens = tokens
        self.collective = collective

    def forward(self, input_ids: Tensor) -> Tensor:
        """[tokens] int64 to [tokens, hidden]."""
        if self.collective.world.size == 1:
            return self.table.rows(input_ids)
        rows = input_ids - self.tokens.start
        foreign = (rows < 0) | (rows >= self.tokens.size)
        embedded = self.table.rows(rows.masked_fill(foreign, 0))
        return self.collective.all_reduce(embedded.masked_fill(foreign[:, None], 0))


class LanguageHead(nn.Module):
    """Turns hidden states into logits: each rank computes those of its rows, then all get all."""

    def __init__(self, matrix: Matrix, vocab_size: int, collective: Collective) -> None:
        """Take this rank's rows, as many on every rank; rows beyond the vocabulary are padding."""
        super().__init__()
        self.matrix = matrix
        self.vocab_size = vocab_size
        self.collective = collective

    def forward(self, hidden: Tensor) -> Tensor:
        """[rows, hidden] to [rows, vocab_size], the same on every rank."""
        logits = self.collective.all_gather_last_dim(self.matrix.multiply(hidden))
        return logits[:, : self.vocab_size]


def load_vocabulary_rows(
    loader: WeightLoader, name: str, vocab_size: int, hidden_size: int, collective: Collective
) -> Tensor:
    """This rank's rows of a [vocab_size, hidden_size] tensor; zero rows make them as many on every rank.

    Raises:
        WeightsError: it is missing, or has another shape.
    """
    span = split_vocabulary(vocab_size, collective.world)
    rows_per_rank = -(-vocab_size // collective.world.size)
    return loader.rows([Part(name, span)], hidden_size, padded_rows=rows_per_rank)
