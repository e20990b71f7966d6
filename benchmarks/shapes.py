"""The model shapes that can be measured: what has to be known to make a random checkpoint of each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama-architecture model with tied embeddings; sizes in elements."""

    name: str
    layers: int
    hidden_size: int
    heads: int
    key_value_heads: int
    intermediate_size: int
    vocabulary_size: int
    rope_theta: float
    max_positions: int = 8192

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads


_ALL = (
    # The shape of SmolLM2-135M.
    Shape("135M", 30, 576, 9, 3, 1536, 49_152, 100_000.0),
    # The shape of Llama-3.2-1B.
    Shape("1B", 16, 2048, 32, 8, 8192, 128_256, 500_000.0),
)

SHAPES = {shape.name: shape for shape in _ALL}
