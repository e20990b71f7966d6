// Matrix products with packed weights: outputs[rows][columns] = inputs[rows][inner] * weights.
#include "panel.h"

using namespace tgi;

namespace {

// Rows that are multiplied with a panel while it is in the cache.
constexpr int64_t ROWS_PER_PASS = 256;

struct Product {
    const bf16* inputs;
    int64_t rows, inner;
    const bf16* weights;
    bf16* outputs;
    int64_t columns;  // of the outputs
};

// Stores the first `count` columns of a row.
inline void put(bf16* to, Floats value, int64_t count) {
    if (count >= LANES) {
        store(to, value);
        return;
    }
    Halves last = narrow(value);
    if (count > 0) memcpy(to, &last, size_t(count) * sizeof(bf16));
}

void plain_rows(const Product& product, int64_t panel, int64_t row, int rows, const float* totals, const bf16* bias) {
    const int64_t column = panel * COLUMNS, left = product.columns - column;
    for (int r = 0; r < rows; ++r) {
        Floats first = load(totals + r * COLUMNS), second = load(totals + r * COLUMNS + LANES);
        if (bias != nullptr) {
            first += widen(bias + column);
            second += widen(bias + column + LANES);
        }
        bf16* to = product.outputs + (row + r) * product.columns + column;
        put(to, first, left);
        put(to + LANES, second, left - LANES);
    }
}

// exp(x) / (1 + exp(x))
inline Floats logistic(Floats x) { return 1.0f / (1.0f + exp2(larger(x * -1.44269504f, splat(-126.0f)))); }

inline Floats silu(Floats x) { return x * logistic(x); }

// 0.5 * (1 + tanh(y)) is logistic(2 * y).
inline Floats gelu_tanh(Floats x) { return x * logistic(1.59576912f * (x + 0.044715f * x * x * x)); }

// A panel of 16 gates and their 16 values becomes 16 outputs.
template <typename Activation>
void gated_rows(const Product& product, int64_t panel, int64_t row, int rows, const float* totals, Activation activate) {
    const int64_t column = panel * LANES;
    for (int r = 0; r < rows; ++r) {
        const Floats gate = rounded(load(totals + r * COLUMNS)), value = rounded(load(totals + r * COLUMNS + LANES));
        put(product.outputs + (row + r) * product.columns + column, rounded(activate(gate)) * value,
            product.columns - column);
    }
}

template <typename Epilogue>
void multiply_all(const Product& product, int64_t panels, Epilogue epilogue) {
    const int64_t block = block_values(product.inner);
#pragma omp parallel
    {
        Tiles tiles;
        alignas(64) float totals[ROWS * COLUMNS];
        for (int64_t start = 0; start < product.rows; start += ROWS_PER_PASS) {
            const int64_t stop = start + ROWS_PER_PASS < product.rows ? start + ROWS_PER_PASS : product.rows;
#pragma omp for schedule(static) nowait
            for (int64_t panel = 0; panel < panels; ++panel) {
                const bf16* first = product.weights + 2 * panel * block;
                for (int64_t row = start; row < stop; row += ROWS) {
                    const int rows = int(stop - row < ROWS ? stop - row : ROWS);
                    multiply<false>(tiles, rows, product.inputs + row * product.inner, product.inner, first,
                                    first + block, product.inner, totals, COLUMNS);
                    epilogue(panel, row, rows, totals);
                }
            }
        }
    }
}

// Packs the 16 columns from `first` on; those beyond the last one are zeros.
void pack_block(const bf16* weights, int64_t columns, int64_t inner, int64_t first, bf16* to) {
    for (int64_t i = 0; i < inner; i += 2)
        for (int64_t column = first; column < first + LANES; ++column, to += 2) {
            if (column < columns)
                memcpy(to, weights + column * inner + i, 2 * sizeof(bf16));
            else
                memset(to, 0, 2 * sizeof(bf16));
        }
}

}  // namespace

extern "C" {

int tgi_prepare() { return allow_tiles() ? 0 : -1; }

// weights[columns][inner] to panels; columns are padded with zeros to a multiple of 32.
void tgi_pack(const bf16* weights, int64_t columns, int64_t inner, bf16* packed) {
    const int64_t blocks = (columns + COLUMNS - 1) / COLUMNS * 2;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < blocks; ++block)
        pack_block(weights, columns, inner, block * LANES, packed + block * block_values(inner));
}

// Gates and values, [2][columns][inner], to panels that hold 16 of each.
void tgi_pack_gated(const bf16* weights, int64_t columns, int64_t inner, bf16* packed) {
    const int64_t panels = (columns + LANES - 1) / LANES;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < 2 * panels; ++block)
        pack_block(weights + block % 2 * columns * inner, columns, inner, block / 2 * LANES,
                   packed + block * block_values(inner));
}

// The weights of some columns, in the order of `ids`: rows[count][inner].
void tgi_unpack_rows(const bf16* packed, int64_t inner, const int64_t* ids, int64_t count, bf16* rows) {
#pragma omp parallel for schedule(static) if (count > 16)
    for (int64_t row = 0; row < count; ++row) {
        const bf16* from = packed + ids[row] / LANES * block_values(inner) + ids[row] % LANES * 2;
        for (int64_t i = 0; i < inner; i += 2) memcpy(rows + row * inner + i, from + i * LANES, 2 * sizeof(bf16));
    }
}

// bias: one value for each packed column, or null.
void tgi_linear(const bf16* inputs, int64_t rows, int64_t inner, const bf16* weights, const bf16* bias,
                bf16* outputs, int64_t columns) {
    const Product product{inputs, rows, inner, weights, outputs, columns};
    multiply_all(product, (columns + COLUMNS - 1) / COLUMNS,
                 [&](int64_t panel, int64_t row, int count, const float* totals) {
                     plain_rows(product, panel, row, count, totals, bias);
                 });
}

// The activation, 0 for SiLU and 1 for GELU's tanh form, of the gates times the values: [rows][columns].
void tgi_gated(const bf16* inputs, int64_t rows, int64_t inner, const bf16* weights, bf16* outputs, int64_t columns,
               int activation) {
    const Product product{inputs, rows, inner, weights, outputs, columns};
    const int64_t panels = (columns + LANES - 1) / LANES;
    if (activation == 0)
        multiply_all(product, panels, [&](int64_t panel, int64_t row, int count, const float* totals) {
            gated_rows(product, panel, row, count, totals, silu);
        });
    else
        multiply_all(product, panels, [&](int64_t panel, int64_t row, int count, const float* totals) {
            gated_rows(product, panel, row, count, totals, gelu_tanh);
        });
}

}
