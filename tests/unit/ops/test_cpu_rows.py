"""Norms, rotations and greedy choices by the CPU kernels, held against torch's operations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgi_shard.kernels.library import CpuKernels
from tgi_shard.layers.rope import Rotation
from tgi_shard.ops.cpu_ops import CpuOperations
from tgi_shard.ops.torch_ops import TorchOperations
from unit.kernels.variants import computing_threads

pytestmark = pytest.mark.usefixtures("one_thread")

TORCH = TorchOperations(torch.bfloat16)
ROUNDING = 2.0**-8
NAN, INF = math.nan, math.inf
SMALL = settings(max_examples=20, deadline=None)

row_counts = st.sampled_from([0, 1, 2, 5, 17, 40])


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16()


def assert_normalized(normed: Tensor, hidden: Tensor, weight: Tensor, eps: float) -> None:
    """Rounded twice, as torch's reference: before the weight and after it."""
    exact = (
        hidden.double() * (hidden.double().square().mean(-1, keepdim=True) + eps).rsqrt() * weight.double()
    )
    assert ((normed.double() - exact).abs() <= 2.02 * ROUNDING * exact.abs()).all()


@given(row_counts, st.integers(1, 200), st.floats(1e-3, 1e3), st.booleans(), st.integers(0, 9))
@SMALL
def test_a_norm_adds_as_torch_does_and_normalizes_within_two_roundings(
    any_kernels: CpuKernels, rows: int, vectors: int, scale: float, with_delta: bool, seed: int
) -> None:
    hidden, weight = random(rows, 16 * vectors, seed=seed, scale=scale), random(16 * vectors, seed=1)
    delta = random(rows, 16 * vectors, seed=seed + 1, scale=scale) if with_delta else None
    expected, _ = TORCH.add_norm(hidden, delta, weight, 1e-5)
    added, normed = CpuOperations(any_kernels).add_norm(hidden.clone(), delta, weight, 1e-5)
    assert torch.equal(added, expected)
    assert_normalized(normed, expected, weight, 1e-5)


def test_a_norm_has_torchs_bits_nearly_always(any_kernels: CpuKernels) -> None:
    """Where it has not, the float32 means differ in their last bits, right between two bfloat16 numbers."""
    hidden, weight = random(300, 1024), random(1024, seed=1)
    _, expected = TORCH.add_norm(hidden, None, weight, 1e-6)
    _, normed = CpuOperations(any_kernels).add_norm(hidden, None, weight, 1e-6)
    assert (normed != expected).double().mean() < 1e-3


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_norm_keeps_what_is_not_a_number_in_its_row(any_kernels: CpuKernels, bad: float) -> None:
    hidden, weight = random(40, 128), random(128, seed=1)
    _, expected = CpuOperations(any_kernels).add_norm(hidden.clone(), None, weight, 1e-6)
    hidden[7, 9] = bad
    _, normed = CpuOperations(any_kernels).add_norm(hidden, None, weight, 1e-6)
    others = torch.arange(40) != 7
    assert torch.equal(normed[others], expected[others])
    assert normed[7, 9].isnan()


def test_a_norm_of_nothing_is_nothing_and_not_nan(any_kernels: CpuKernels) -> None:
    _, normed = CpuOperations(any_kernels).add_norm(random(3, 64) * 0, None, random(64), 1e-6)
    assert (normed == 0).all()


def fused(tokens: int, heads: int, head_dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Queries and keys as a view into a tensor that holds values too, and that tensor."""
    qkv = random(tokens, heads + 3, head_dim, seed=seed)
    return qkv[:, :heads], qkv


head_counts = st.integers(1, 20)


@given(row_counts, head_counts, st.sampled_from([16, 32, 64, 80, 128, 256]), st.integers(0, 9))
@SMALL
def test_heads_are_normalized_where_they_lie_each_by_its_own_weights(
    any_kernels: CpuKernels, tokens: int, count: int, head_dim: int, seed: int
) -> None:
    heads, qkv = fused(tokens, count, head_dim, seed)
    before, weight = qkv.clone(), random(count, head_dim, seed=seed + 1)
    normed = CpuOperations(any_kernels).norm_heads(heads, weight, 1e-6)
    assert_normalized(normed, before[:, :count], weight, 1e-6)
    assert torch.equal(qkv[:, count:], before[:, count:])


def rotation(tokens: int, rotary_dim: int, seed: int = 0) -> Rotation:
    angles = torch.rand(tokens, 1, rotary_dim // 2, generator=torch.Generator().manual_seed(seed)) * 1000
    cos, sin = angles.cos(), angles.sin()
    return Rotation(torch.cat((cos, cos), -1).bfloat16(), torch.cat((-sin, sin), -1).bfloat16())


@given(
    row_counts,
    head_counts,
    st.sampled_from([(32, 32), (64, 64), (128, 128), (256, 256), (64, 32), (128, 32), (80, 32), (96, 96)]),
    st.integers(0, 9),
)
@SMALL
def test_rotated_heads_have_torchs_bits_and_their_neighbours_keep_theirs(
    any_kernels: CpuKernels, tokens: int, count: int, dims: tuple[int, int], seed: int
) -> None:
    head_dim, rotary_dim = dims
    heads, qkv = fused(tokens, count, head_dim, seed)
    before, turn = qkv.clone(), rotation(tokens, rotary_dim, seed)
    assert torch.equal(CpuOperations(any_kernels).rotate(heads, turn), turn.apply(before[:, :count]))
    assert torch.equal(qkv[:, count:], before[:, count:])


@pytest.mark.parametrize("rotary_dim", [8, 16, 24])
def test_rotations_that_do_not_fill_the_vectors_are_torchs(kernels: CpuKernels, rotary_dim: int) -> None:
    heads, qkv = fused(5, 4, 24)
    before, turn = qkv.clone(), rotation(5, rotary_dim)
    assert torch.equal(CpuOperations(kernels).rotate(heads, turn), turn.apply(before[:, :4]))


@pytest.mark.parametrize("size", [8, 24, 33])
def test_norms_that_do_not_fill_the_vectors_are_torchs(kernels: CpuKernels, size: int) -> None:
    hidden, delta, weight = random(5, size), random(5, size, seed=1), random(size, seed=2)
    expected = TORCH.add_norm(hidden.clone(), delta, weight, 1e-6)
    for ours, theirs in zip(
        CpuOperations(kernels).add_norm(hidden, delta, weight, 1e-6), expected, strict=True
    ):
        assert torch.equal(ours, theirs)
    heads, weights = random(5, 2, size), random(2, size, seed=1)
    expected_heads = TORCH.norm_heads(heads.clone(), weights, 1e-6)
    assert torch.equal(CpuOperations(kernels).norm_heads(heads, weights, 1e-6), expected_heads)


def test_threads_share_the_rows_and_leave_none_out(any_kernels: CpuKernels) -> None:
    operations, (heads, _) = CpuOperations(any_kernels), fused(37, 8, 64)
    weight, turn, hidden = random(8, 64, seed=1), rotation(37, 64), random(37, 512)
    results = []
    for threads in (1, 3):
        with computing_threads(threads):
            _, normed = operations.add_norm(hidden.clone(), hidden, weight.flatten(), 1e-6)
            results.append(
                (
                    normed,
                    operations.norm_heads(heads.clone(), weight, 1e-6),
                    operations.rotate(heads.clone(), turn),
                    *operations.greedy(hidden),
                )
            )
    for alone, together in zip(*results, strict=True):
        assert torch.equal(alone, together)


def assert_likeliest(kernels: CpuKernels, logits: Tensor) -> None:
    tokens, logprobs = CpuOperations(kernels).greedy(logits)
    expected = logits.float().log_softmax(-1)
    # numpy's argmax answers the first of equals; torch's answers any.
    assert tokens.tolist() == logits.float().numpy().argmax(-1).tolist()
    torch.testing.assert_close(logprobs, expected.gather(1, tokens[:, None])[:, 0], atol=1e-3, rtol=0)


@given(
    st.integers(1, 20),
    st.one_of(st.integers(1, 70), st.sampled_from([997, 4096, 32001])),
    st.integers(0, 40),
    st.floats(0, 100),
    st.integers(0, 99),
)
@SMALL
def test_the_likeliest_token_is_found_in_rows_of_any_length_and_stride(
    any_kernels: CpuKernels, rows: int, vocabulary: int, padding: int, scale: float, seed: int
) -> None:
    padded = random(rows, vocabulary + padding, seed=seed, scale=scale)
    padded[:, vocabulary:] = INF
    assert_likeliest(any_kernels, padded[:, :vocabulary])


@given(st.lists(st.sampled_from([-INF, -1000.0, -2.0, 0.0, 3.0, 3.0]), min_size=1, max_size=70))
@SMALL
def test_of_equal_tokens_the_first_is_chosen_and_impossible_ones_weigh_nothing(
    any_kernels: CpuKernels, row: list[float]
) -> None:
    if max(row) == -INF:
        row[0] = 1.0
    assert_likeliest(any_kernels, torch.tensor([row, row[::-1]]).bfloat16())


def test_no_rows_have_no_tokens(any_kernels: CpuKernels) -> None:
    tokens, logprobs = CpuOperations(any_kernels).greedy(torch.empty(0, 100, dtype=torch.bfloat16))
    assert (tokens.shape, logprobs.shape) == ((0,), (0,))


def undistributed(vocabulary: int) -> dict[str, Tensor]:
    """Rows that no softmax has an answer for."""
    one_nan, last_nan, infinite = random(3, vocabulary).unbind()
    one_nan[vocabulary // 2], last_nan[-1], infinite[0] = NAN, NAN, INF
    nothing = torch.full((vocabulary,), -INF, dtype=torch.bfloat16)
    return {
        "one-nan": one_nan,
        "last-nan": last_nan,
        "infinite": infinite,
        "nothing-possible": nothing,
        "all-nan": nothing * 0,
    }


@pytest.mark.parametrize("vocabulary", [1, 64, 70])
@pytest.mark.parametrize("kind", ["one-nan", "last-nan", "infinite", "nothing-possible", "all-nan"])
def test_a_row_without_a_distribution_still_names_a_token(
    any_kernels: CpuKernels, kind: str, vocabulary: int
) -> None:
    row = undistributed(vocabulary)[kind]
    neighbour = random(vocabulary, seed=7)
    tokens, logprobs = CpuOperations(any_kernels).greedy(torch.stack((neighbour, row, neighbour)))
    assert 0 <= tokens[1] < vocabulary
    assert logprobs[0].isfinite()
    assert torch.equal(logprobs[0], logprobs[2])


@pytest.mark.parametrize("kind", ["one-nan", "last-nan", "infinite", "nothing-possible", "all-nan"])
def test_the_logprob_of_a_row_without_a_distribution_is_nan(any_kernels: CpuKernels, kind: str) -> None:
    _, logprobs = CpuOperations(any_kernels).greedy(undistributed(64)[kind][None])
    assert logprobs.isnan().all()
