// Matrix products with packed weights: outputs[rows][columns] = inputs[rows][inner] * weights.
#include "weights.h"

using namespace tgi;

namespace {

// Rows that are multiplied with a panel while it is in the cache.
constexpr int64_t ROWS_PER_PASS = 256;

struct Product {
    const Matrix& matrix;
    const bf16* inputs;
    int64_t rows;
    bf16* outputs;
    int64_t columns;  // of the outputs
};

// Stores the first `count` values of a vector.
inline void put(bf16* to, Floats value, int64_t count) {
    if (count >= LANES) {
        store(to, value);
        return;
    }
    const Halves last = narrow(value);
    if (count > 0) memcpy(to, &last, size_t(count) * sizeof(bf16));
}

// What a row's totals of one block come to: scaled, if the format leaves that to the end.
inline Floats finished(const Matrix& matrix, const float* totals, int64_t column) {
    const Floats value = load(totals);
    if (matrix.format != Format::INT8) return value;
    return value * load(static_cast<const float*>(matrix.scales) + column);
}

struct Plain {
    void operator()(const Product& product, int64_t panel, int64_t row, const float* totals) const {
        const Matrix& matrix = product.matrix;
        const int64_t column = panel * COLUMNS, left = product.columns - column;
        Floats first = finished(matrix, totals, column);
        Floats second = finished(matrix, totals + LANES, column + LANES);
        if (matrix.bias != nullptr) {
            first += widen(matrix.bias + column);
            second += widen(matrix.bias + column + LANES);
        }
        bf16* to = product.outputs + row * product.columns + column;
        put(to, first, left);
        put(to + LANES, second, left - LANES);
    }
};

// exp(x) / (1 + exp(x))
inline Floats logistic(Floats x) { return 1.0f / (1.0f + exp2(x * -1.44269504f)); }

inline Floats silu(Floats x) { return x * logistic(x); }

// 0.5 * (1 + tanh(y)) is logistic(2 * y).
inline Floats gelu_tanh(Floats x) { return x * logistic(1.59576912f * (x + 0.044715f * x * x * x)); }

// Panels of 16 gates and their 16 values make 16 outputs.
template <Floats (*ACTIVATE)(Floats)>
struct Gated {
    void operator()(const Product& product, int64_t panel, int64_t row, const float* totals) const {
        const int64_t column = panel * COLUMNS;
        const Floats gate = rounded(finished(product.matrix, totals, column));
        const Floats value = rounded(finished(product.matrix, totals + LANES, column + LANES));
        store(product.outputs + row * product.columns + panel * LANES, rounded(ACTIVATE(gate)) * value);
    }
};

// One panel times some rows, at most ROWS_PER_PASS.
template <typename Panels, typename Finish>
void multiply_panel(const Panels& panels, const Product& product, int64_t panel, int64_t start, int64_t stop,
                    Tiles& tiles, bf16* unpacked, float* totals, Finish finish) {
    const int64_t inner = product.matrix.inner;
    for (int64_t i = 0; i < inner; i += CHUNK) {
        const int64_t count = inner - i < CHUNK ? inner - i : CHUNK;
        const auto blocks = panels.take(panel, i, count, unpacked);
        for (int64_t row = start; row < stop; row += ROWS) {
            const int rows = int(stop - row < ROWS ? stop - row : ROWS);
            const bf16* inputs = product.inputs + row * inner + i;
            float* sums = totals + (row - start) * COLUMNS;
            if (i == 0)
                multiply<false>(tiles, rows, inputs, inner, blocks, count, sums, COLUMNS);
            else
                multiply<true>(tiles, rows, inputs, inner, blocks, count, sums, COLUMNS);
        }
    }
    for (int64_t row = start; row < stop; ++row) finish(product, panel, row, totals + (row - start) * COLUMNS);
}

template <typename Panels, typename Finish>
void multiply_all(const Product& product, Finish finish) {
    const Panels source{product.matrix};
    const int64_t panels = (product.matrix.columns + COLUMNS - 1) / COLUMNS;
#pragma omp parallel
    {
        Tiles tiles;
        alignas(64) bf16 unpacked[CHUNK * COLUMNS];
        alignas(64) float totals[ROWS_PER_PASS * COLUMNS];
        for (int64_t start = 0; start < product.rows; start += ROWS_PER_PASS) {
            const int64_t stop = start + ROWS_PER_PASS < product.rows ? start + ROWS_PER_PASS : product.rows;
#pragma omp for schedule(static) nowait
            for (int64_t panel = 0; panel < panels; ++panel)
                multiply_panel(source, product, panel, start, stop, tiles, unpacked, totals, finish);
        }
    }
}

template <typename Finish>
void multiply_as_packed(const Product& product, Finish finish) {
    switch (product.matrix.format) {
        case Format::BF16: return multiply_all<Bf16Panels>(product, finish);
        case Format::INT8: return multiply_all<Int8Panels>(product, finish);
        case Format::INT4: return multiply_all<Int4Panels>(product, finish);
    }
}

}  // namespace

extern "C" {

struct LinearCall {
    const Matrix* matrix;
    const bf16* inputs;  // [rows][matrix.inner]
    int64_t rows;
    bf16* outputs;  // [rows][matrix.columns], or half as many if gated
};

// Returns 0 if this process may use what the kernels were compiled for.
int tgi_prepare() { return allow_tiles() ? 0 : -1; }

void tgi_linear(const LinearCall* call) {
    multiply_as_packed(Product{*call->matrix, call->inputs, call->rows, call->outputs, call->matrix->columns}, Plain{});
}

// The activation of the gates times the values. The matrix alternates between 16 columns of gates and 16 of values.
void tgi_gated_silu(const LinearCall* call) {
    const int64_t columns = call->matrix->columns / 2;
    multiply_as_packed(Product{*call->matrix, call->inputs, call->rows, call->outputs, columns}, Gated<silu>{});
}

void tgi_gated_gelu_tanh(const LinearCall* call) {
    const int64_t columns = call->matrix->columns / 2;
    multiply_as_packed(Product{*call->matrix, call->inputs, call->rows, call->outputs, columns}, Gated<gelu_tanh>{});
}

}
