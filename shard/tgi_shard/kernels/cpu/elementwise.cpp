// What happens to single rows between the products. Each result is rounded where torch would round it.
#include "numbers.h"

#include <cmath>

using namespace tgi;

namespace {

constexpr int64_t ALONE = 4096;  // values under which one thread is faster than waking the others

float mean_square(const bf16* row, int64_t size) {
    Floats squares{};
    for (int64_t i = 0; i < size; i += LANES) {
        const Floats value = widen(row + i);
        squares += value * value;
    }
    return sum(squares) / float(size);
}

void norm_row(const bf16* row, const bf16* weight, float eps, bf16* to, int64_t size) {
    const float factor = 1.0f / std::sqrt(mean_square(row, size) + eps);
    for (int64_t i = 0; i < size; i += LANES)
        store(to + i, widen(weight + i) * rounded(widen(row + i) * factor));
}

}  // namespace

extern "C" {

struct NormCall {
    bf16* hidden;
    const bf16* delta;  // or null
    const bf16* weight;
    bf16* normed;
    int64_t rows, size;  // size is a multiple of 16
    float eps;
};

// hidden += delta; normed = RMS norm of hidden.
void tgi_add_norm(const NormCall* call) {
    const int64_t size = call->size;
#pragma omp parallel for schedule(static) if (call->rows * size > ALONE)
    for (int64_t row = 0; row < call->rows; ++row) {
        bf16* stream = call->hidden + row * size;
        if (call->delta != nullptr)
            for (int64_t i = 0; i < size; i += LANES)
                store(stream + i, widen(stream + i) + widen(call->delta + row * size + i));
        norm_row(stream, call->weight, call->eps, call->normed + row * size, size);
    }
}

struct HeadNormCall {
    bf16* values;    // [tokens][heads][head_dim]
    int64_t stride;  // from token to token, in values
    int64_t tokens, heads, head_dim;
    const bf16* weights;  // [heads][head_dim]
    float eps;
};

// RMS norm of every head, in place.
void tgi_norm_heads(const HeadNormCall* call) {
    const int64_t heads = call->heads, head_dim = call->head_dim;
#pragma omp parallel for schedule(static) if (call->tokens * heads * head_dim > ALONE)
    for (int64_t i = 0; i < call->tokens * heads; ++i) {
        bf16* row = call->values + i / heads * call->stride + i % heads * head_dim;
        norm_row(row, call->weights + i % heads * head_dim, call->eps, row, head_dim);
    }
}

struct RotationCall {
    bf16* values;    // [tokens][heads][head_dim]
    int64_t stride;  // from token to token, in values
    int64_t tokens, heads, head_dim;
    const bf16 *cos, *sin;  // [tokens][2 * half], the sines of the first half negated
    int64_t half;           // of the dimensions that turn, a multiple of 16
};

// Rotary embedding of every head, in place.
void tgi_rotate(const RotationCall* call) {
    const int64_t half = call->half;
#pragma omp parallel for schedule(static) if (call->tokens * call->heads * call->head_dim > ALONE)
    for (int64_t token = 0; token < call->tokens; ++token) {
        const bf16 *c = call->cos + token * 2 * half, *s = call->sin + token * 2 * half;
        for (int64_t head = 0; head < call->heads; ++head) {
            bf16* row = call->values + token * call->stride + head * call->head_dim;
            for (int64_t i = 0; i < half; i += LANES) {
                const Floats low = widen(row + i), high = widen(row + half + i);
                store(row + i, rounded(low * widen(c + i)) + rounded(high * widen(s + i)));
                store(row + half + i, rounded(high * widen(c + half + i)) + rounded(low * widen(s + half + i)));
            }
        }
    }
}

struct GreedyCall {
    const bf16* logits;  // [rows][vocabulary]
    int64_t stride;      // from row to row
    int64_t rows, vocabulary;
    int64_t* tokens;  // [rows]
    float* logprobs;  // [rows]
};

// The likeliest token of every row and its log-probability; of several equal ones the first. The log-probability is
// NaN where there is no distribution: a logit is NaN, or the largest one infinite.
void tgi_greedy(const GreedyCall* call) {
    const int64_t vocabulary = call->vocabulary;
#pragma omp parallel for schedule(static) if (call->rows * vocabulary > ALONE)
    for (int64_t row = 0; row < call->rows; ++row) {
        const bf16* own = call->logits + row * call->stride;
        const int64_t whole = vocabulary / LANES * LANES;
        Floats highest = splat(-INFINITY);
        for (int64_t i = 0; i < whole; i += LANES) highest = larger(widen(own + i), highest);
        float best = largest(highest);
        for (int64_t i = whole; i < vocabulary; ++i) best = widen(own[i]) > best ? widen(own[i]) : best;
        int64_t token = 0;
        while (token < vocabulary - 1 && widen(own[token]) != best) ++token;
        constexpr float LOG2_E = 1.44269504f;
        Floats sums{};
        Ints missing{};
        for (int64_t i = 0; i < whole; i += LANES) {
            const Floats logit = widen(own + i);
            sums += exp2((logit - best) * LOG2_E);
            missing |= logit != logit;
        }
        float total = sum(select(missing, splat(NAN), sums));
        for (int64_t i = whole; i < vocabulary; ++i) total += std::exp(widen(own[i]) - best);
        if (!std::isfinite(best)) total = NAN;
        call->tokens[row] = token;
        call->logprobs[row] = -std::log(total);
    }
}

}
