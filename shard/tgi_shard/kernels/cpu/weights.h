// Weight matrices as they lie in memory, and how a panel of one becomes bfloat16 for the product.
//
// All formats share the order of panel.h: blocks of 16 columns, [inner / 2][16 columns][2] in each.
#pragma once

#include "panel.h"

namespace tgi {

enum class Format : int64_t { BF16 = 0, INT8 = 1, INT4 = 2 };

constexpr int64_t INT4_GROUP = 32;  // inner values of a column that share a scale: a tile's
constexpr int64_t CHUNK = 288;       // inner values that are multiplied at once: a panel of them stays in the L1 cache

}  // namespace tgi

extern "C" {

// Columns are padded with zeros to whole panels of 32.
struct Matrix {
    const void* values;
    // INT8: float[columns]. INT4: bf16[blocks][groups][2][16 columns], scales and zeros: a weight is
    // (code - 8) * scale + zero.
    const void* scales;
    const tgi::bf16* bias;  // [columns], or null
    int64_t columns, inner;
    tgi::Format format;
};

}

namespace tgi {

struct Bf16Panels {
    const Matrix& matrix;

    // The panel's inner values from `start` on; the following ones lie behind them.
    Streamed take(int64_t panel, int64_t start, int64_t, bf16*) const {
        const bf16* first = static_cast<const bf16*>(matrix.values) + 2 * panel * block_values(matrix.inner);
        return {{first + start * LANES, first + block_values(matrix.inner) + start * LANES}};
    }
};

// Calls unpack(block, start, count, to) for both blocks of a panel.
template <typename Unpack>
inline Blocks unpack_panel(int64_t panel, int64_t start, int64_t count, bf16* to, Unpack unpack) {
    bf16* second = to + block_values(count);
    unpack(2 * panel, start, count, to);
    unpack(2 * panel + 1, start, count, second);
    return {to, second};
}

// Stores two vectors of 16 values behind each other.
inline void store_both(bf16* to, Floats low, Floats high) {
#if defined(__AVX512BF16__)
    const auto both = _mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    memcpy(to, &both, sizeof both);
#else
    store(to, low);
    store(to + LANES, high);
#endif
}

// Unpacking and multiplying take turns, and memory must not be idle during either: every line that is unpacked
// asks for the one that lies as far ahead as a chunk of the panel.
struct Int8Panels {
    const Matrix& matrix;

    // The codes themselves, which bfloat16 holds exactly: the scales wait for the product.
    Blocks take(int64_t panel, int64_t start, int64_t count, bf16* to) const {
        return unpack_panel(panel, start, count, to, [&](int64_t block, int64_t first, int64_t n, bf16* out) {
            const int8_t* from = static_cast<const int8_t*>(matrix.values) + block * block_values(matrix.inner) +
                                 block_values(first);
            const int64_t ahead = 2 * block_values(n);
            for (int64_t i = 0; i < block_values(n); i += 4 * LANES) {
                ask_for(from + i + ahead);
                store_both(out + i, widen(from + i), widen(from + i + LANES));
                store_both(out + i + 2 * LANES, widen(from + i + 2 * LANES), widen(from + i + 3 * LANES));
            }
        });
    }
};

// A word holds a lane's codes of eight vectors, the first in its lowest bits.
struct Int4Panels {
    const Matrix& matrix;

    Blocks take(int64_t panel, int64_t start, int64_t count, bf16* to) const {
        return unpack_panel(panel, start, count, to, [&](int64_t block, int64_t first, int64_t n, bf16* out) {
            constexpr int64_t GROUP_VALUES = INT4_GROUP * LANES, CODES = 8;
            const int64_t groups = matrix.inner / INT4_GROUP, group = first / INT4_GROUP;
            const uint8_t* from = static_cast<const uint8_t*>(matrix.values) +
                                  (block * groups + group) * GROUP_VALUES / 2;
            const bf16* scales = static_cast<const bf16*>(matrix.scales) + (block * groups + group) * 2 * LANES;
            for (int64_t g = 0; g < n / INT4_GROUP; ++g, scales += 2 * LANES) {
                // A vector holds the values of columns 0 to 7, or 8 to 15, two of each.
                const Floats scale = widen(scales), offset = widen(scales + LANES) - 8 * scale;
                const Floats scale_low = twice(scale, 0), offset_low = twice(offset, 0);
                const Floats scale_high = twice(scale, 8), offset_high = twice(offset, 8);
                for (int word = 0; word < GROUP_VALUES; word += int(CODES) * LANES, from += 64) {
                    Words codes;
                    memcpy(&codes, from, sizeof codes);
                    ask_for(from + block_values(n));
                    for (int i = 0; i < CODES; i += 2, out += 2 * LANES, codes >>= 8)
                        store_both(out, lowest_bits(codes) * scale_low + offset_low,
                                   lowest_bits(codes >> 4) * scale_high + offset_high);
                }
            }
        });
    }
};

}  // namespace tgi
