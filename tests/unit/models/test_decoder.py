"""The decoder's body holds nothing that a compiler would have to stop at."""

import pytest
import torch
from torch import Tensor

from unit.models.reference import load_ours, random_model


class NoAttention:
    """Stands for the one call that is not the decoder's own."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, layer: int, window: int | None, scale: float
    ) -> Tensor:
        return query.flatten(1)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@torch.inference_mode()
def test_a_layer_is_one_graph_for_any_number_of_tokens(family: str) -> None:
    model = load_ours(random_model(family, head_dim=16))
    graphs = []

    def collect(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    layer = torch.compile(model.layers[1], backend=collect, fullgraph=True, dynamic=True)
    for tokens in (3, 5, 8):
        hidden = torch.randn(tokens, 32)
        rotation = model.rotary(torch.arange(tokens), torch.float32)
        delta = torch.randn(tokens, 32)
        compiled = layer(hidden, delta, rotation, NoAttention())
        torch.testing.assert_close(compiled, model.layers[1](hidden, delta, rotation, NoAttention()))
    assert len(graphs) == 1
