// Brings weights into the order that products read them in, and single rows of them back.
#include "weights.h"

using namespace tgi;

namespace {

int64_t count_blocks(int64_t columns) { return (columns + COLUMNS - 1) / COLUMNS * 2; }

// weights[columns][inner], two bytes or one each; the columns behind the last one are zeros.
template <typename Value>
void pack(const Value* weights, int64_t columns, int64_t inner, Value* packed) {
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < count_blocks(columns); ++block) {
        Value* to = packed + block * block_values(inner);
        for (int64_t i = 0; i < inner; i += 2)
            for (int64_t column = block * LANES; column < (block + 1) * LANES; ++column, to += 2) {
                if (column < columns)
                    memcpy(to, weights + column * inner + i, 2 * sizeof(Value));
                else
                    memset(to, 0, 2 * sizeof(Value));
            }
    }
}

}  // namespace

extern "C" {

struct PackCall {
    const void* weights;  // [columns][inner]
    int64_t columns, inner;
    void* packed;
};

void tgi_pack_bf16(const PackCall* call) {
    pack(static_cast<const bf16*>(call->weights), call->columns, call->inner, static_cast<bf16*>(call->packed));
}

void tgi_pack_int8(const PackCall* call) {
    pack(static_cast<const int8_t*>(call->weights), call->columns, call->inner, static_cast<int8_t*>(call->packed));
}

// The weights are codes, a byte from 0 to 15 each.
void tgi_pack_int4(const PackCall* call) {
    constexpr int CODES = 8;  // of a word
    const uint8_t* codes = static_cast<const uint8_t*>(call->weights);
    uint32_t* packed = static_cast<uint32_t*>(call->packed);
    const int64_t columns = call->columns, inner = call->inner;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < count_blocks(columns); ++block)
        for (int64_t word = 0; word < block_values(inner) / CODES; ++word) {
            const int64_t vectors = word / LANES * CODES, lane = word % LANES;
            uint32_t codes_of_lane = 0;
            for (int64_t i = 0; i < CODES; ++i) {
                const int64_t pair = (vectors + i) / 2, half = (vectors + i) % 2;
                const int64_t column = block * LANES + half * (LANES / 2) + lane / 2;
                const uint32_t code = column < columns ? codes[column * inner + 2 * pair + lane % 2] : 8;
                codes_of_lane |= code << (4 * i);
            }
            packed[block * block_values(inner) / CODES + word] = codes_of_lane;
        }
}

struct RowsCall {
    const Matrix* matrix;  // not INT4
    const int64_t* ids;
    int64_t count;
    bf16* rows;  // [count][matrix.inner]
};

// The weights of some columns, in the order of `ids`.
void tgi_unpack_rows(const RowsCall* call) {
    const Matrix* matrix = call->matrix;
    const int64_t inner = matrix->inner, count = call->count;
    const int64_t* ids = call->ids;
    bf16* rows = call->rows;
#pragma omp parallel for schedule(static) if (count > 16)
    for (int64_t row = 0; row < count; ++row) {
        const int64_t begin = ids[row] / LANES * block_values(inner) + ids[row] % LANES * 2;
        bf16* to = rows + row * inner;
        if (matrix->format == Format::BF16) {
            const bf16* from = static_cast<const bf16*>(matrix->values) + begin;
            for (int64_t i = 0; i < inner; i += 2) memcpy(to + i, from + i * LANES, 2 * sizeof(bf16));
        } else {
            const int8_t* from = static_cast<const int8_t*>(matrix->values) + begin;
            const float scale = static_cast<const float*>(matrix->scales)[ids[row]];
            for (int64_t i = 0; i < inner; ++i) to[i] = narrow(float(from[i / 2 * 2 * LANES + i % 2]) * scale);
        }
    }
}

}
