"""Models by the CPU kernels, in bfloat16: as near to the exact logits as those of transformers, and with the
same bits however texts are put together."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tgi_shard.attention.cpu_backend import CpuAttention
from tgi_shard.backend import Backend
from tgi_shard.kernels.graphs import CpuGraphs
from tgi_shard.kernels.library import CpuKernels
from tgi_shard.models.causal_lm import CausalLM
from tgi_shard.ops.cpu_ops import CpuOperations
from unit.models.reference import checkpoint, config_json, load_ours, random_model, reference_logits
from unit.models.serving import Server, load, random_text

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 160, "head_dim": 32}
WINDOW = 12
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-all-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-gelu-wide-heads": ("llama", {"hidden_act": "gelu_pytorch_tanh", "head_dim": 64}),
    "mistral-window": ("mistral", {"sliding_window": WINDOW}),
    "qwen2": ("qwen2", {"num_key_value_heads": 1}),
    "qwen3": ("qwen3", {"head_dim": 64}),
    "qwen3-tied": ("qwen3", {"tie_word_embeddings": True}),
}
PROMPTS = [random_text(length, seed=length) for length in (45, 1, 70, 2, 33)]
NEW_TOKENS = 5


class Models:
    """The same weights thrice: by the kernels and by transformers in bfloat16, by transformers in float32."""

    def __init__(self, kernels: CpuKernels, family: str, settings: dict[str, Any]) -> None:
        self.theirs = random_model(family, torch.bfloat16, **settings)
        self.wide: PreTrainedModel = random_model(family, **settings).bfloat16().float()
        backend = Backend(CpuOperations(kernels), CpuAttention(kernels), CpuGraphs(kernels))
        self.ours = load(config_json(self.theirs), checkpoint(self.theirs), torch.bfloat16, backend=backend)


@pytest.fixture(params=list(VARIANTS), scope="module")
def models(request: pytest.FixtureRequest, kernels: CpuKernels) -> Models:
    family, settings = VARIANTS[request.param]
    return Models(kernels, family, {**SIZES, **settings})


def our_logits(model: CausalLM) -> Tensor:
    server = Server(model)
    return torch.cat(server.step([(server.open(len(prompt)), prompt) for prompt in PROMPTS])).float()


def their_logits(model: PreTrainedModel) -> Tensor:
    return torch.cat([reference_logits(model, prompt) for prompt in PROMPTS]).float()


def assert_as_near(ours: Tensor, theirs: Tensor, exact: Tensor) -> None:
    error, their_error = (ours - exact).abs(), (theirs - exact).abs()
    assert error.mean() < 1.1 * their_error.mean()
    assert error.max() < 2 * their_error.max()


def test_logits_are_as_near_to_the_exact_ones_as_those_of_transformers(models: Models) -> None:
    assert_as_near(our_logits(models.ours), their_logits(models.theirs), their_logits(models.wide))


def test_logits_are_as_near_to_the_exact_ones_as_those_of_torchs_operations(models: Models) -> None:
    torchs = our_logits(load_ours(models.theirs))
    assert_as_near(our_logits(models.ours), torchs, their_logits(models.wide))


def test_the_likeliest_tokens_are_those_of_transformers_wherever_rounding_leaves_no_doubt(
    models: Models,
) -> None:
    ours, theirs, exact = our_logits(models.ours), their_logits(models.theirs), their_logits(models.wide)
    first, second = exact.topk(2).values.unbind(-1)
    sure = first - second > 3 * (theirs - exact).abs().amax(-1)
    assert sure.double().mean() > 0.5
    assert torch.equal(ours.argmax(-1)[sure], theirs.argmax(-1)[sure])


def decode(server: Server, prompts: list[list[int]], chunk: int) -> list[Tensor]:
    """Logits of prompts and of what they are continued by, prompts in chunks beside those that decode."""
    sequences = [server.open(len(prompt) + NEW_TOKENS) for prompt in prompts]
    texts = [prompt + random_text(NEW_TOKENS, seed=len(prompt)) for prompt in prompts]
    logits: list[list[Tensor]] = [[] for _ in prompts]
    while True:
        step = [
            (sequence, text[sequence.length : max(sequence.length + 1, min(sequence.length + chunk, prompt))])
            for sequence, text, prompt in zip(sequences, texts, map(len, prompts), strict=True)
        ]
        left = [index for index, (_, tokens) in enumerate(step) if tokens]
        if not left:
            return [torch.cat(rows) for rows in logits]
        for index, rows in zip(left, server.step([step[index] for index in left]), strict=True):
            logits[index].append(rows)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_a_texts_logits_have_the_same_bits_alone_and_in_a_batch(models: Models, chunk: int) -> None:
    together = decode(Server(models.ours), PROMPTS, chunk)
    for prompt, rows in zip(PROMPTS, together, strict=True):
        (alone,) = decode(Server(models.ours), [prompt], 1000)
        assert torch.equal(rows, alone)


def test_a_prefix_in_shared_blocks_gives_the_bits_of_the_whole(models: Models) -> None:
    server = Server(models.ours)
    text = random_text(90, seed=3)
    owner = server.open(90)
    (whole,) = server.step([(owner, text)])
    follower = server.open(90, shared=owner.blocks[:2])
    rows, _ = server.step([(follower, text[64:]), (server.open(3), random_text(3))])
    assert torch.equal(rows, whole[64:])


def test_sizes_that_the_kernels_cannot_take_are_computed_by_torch_between_them(kernels: CpuKernels) -> None:
    models = Models(kernels, "llama", {**SIZES, "hidden_size": 40, "intermediate_size": 50})
    assert_as_near(our_logits(models.ours), their_logits(models.theirs), their_logits(models.wide))
