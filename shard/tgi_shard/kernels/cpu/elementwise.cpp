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

// hidden += delta (unless that is null); normed = RMS norm of hidden. All [rows][size], size a multiple of 16.
void tgi_add_norm(bf16* hidden, const bf16* delta, const bf16* weight, float eps, bf16* normed, int64_t rows,
                  int64_t size) {
#pragma omp parallel for schedule(static) if (rows * size > ALONE)
    for (int64_t row = 0; row < rows; ++row) {
        bf16* stream = hidden + row * size;
        if (delta != nullptr)
            for (int64_t i = 0; i < size; i += LANES)
                store(stream + i, widen(stream + i) + widen(delta + row * size + i));
        norm_row(stream, weight, eps, normed + row * size, size);
    }
}

// RMS norm of every head, in place: [tokens][heads][head_dim], `stride` values from token to token.
void tgi_norm_heads(bf16* values, int64_t stride, int64_t tokens, int64_t heads, int64_t head_dim,
                    const bf16* weights, float eps) {
#pragma omp parallel for schedule(static) if (tokens * heads * head_dim > ALONE)
    for (int64_t i = 0; i < tokens * heads; ++i) {
        bf16* row = values + i / heads * stride + i % heads * head_dim;
        norm_row(row, weights + i % heads * head_dim, eps, row, head_dim);
    }
}

// Rotary embedding of every head, in place; half = rotary_dim / 2, a multiple of 16.
// cos and sin: [tokens][rotary_dim], the sines of the first half negated.
void tgi_rotate(bf16* values, int64_t stride, int64_t tokens, int64_t heads, int64_t head_dim, const bf16* cos,
                const bf16* sin, int64_t half) {
#pragma omp parallel for schedule(static) if (tokens * heads * head_dim > ALONE)
    for (int64_t token = 0; token < tokens; ++token) {
        const bf16 *c = cos + token * 2 * half, *s = sin + token * 2 * half;
        for (int64_t head = 0; head < heads; ++head) {
            bf16* row = values + token * stride + head * head_dim;
            for (int64_t i = 0; i < half; i += LANES) {
                const Floats low = widen(row + i), high = widen(row + half + i);
                store(row + i, rounded(low * widen(c + i)) + rounded(high * widen(s + i)));
                store(row + half + i, rounded(high * widen(c + half + i)) + rounded(low * widen(s + half + i)));
            }
        }
    }
}

// The likeliest token of every row and its log-probability; of several equal ones the first.
void tgi_greedy(const bf16* logits, int64_t stride, int64_t rows, int64_t vocabulary, int64_t* tokens,
                float* logprobs) {
#pragma omp parallel for schedule(static) if (rows * vocabulary > ALONE)
    for (int64_t row = 0; row < rows; ++row) {
        const bf16* own = logits + row * stride;
        const int64_t whole = vocabulary / LANES * LANES;
        Floats highest = splat(-INFINITY);
        for (int64_t i = 0; i < whole; i += LANES) highest = larger(widen(own + i), highest);
        float best = largest(highest);
        for (int64_t i = whole; i < vocabulary; ++i) best = widen(own[i]) > best ? widen(own[i]) : best;
        int64_t token = 0;
        while (token < vocabulary - 1 && widen(own[token]) != best) ++token;
        constexpr float LOG2_E = 1.44269504f;
        Floats sums{};
        for (int64_t i = 0; i < whole; i += LANES) sums += exp2((widen(own + i) - best) * LOG2_E);
        float total = sum(sums);
        for (int64_t i = whole; i < vocabulary; ++i) total += std::exp(widen(own[i]) - best);
        tokens[row] = token;
        logprobs[row] = -std::log(total);
    }
}

}
