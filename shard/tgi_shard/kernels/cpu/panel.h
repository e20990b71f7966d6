// The product that everything large is made of: up to 32 rows times a panel of 32 columns.
//
// A panel is a pair of column blocks. A block holds 16 columns of a matrix, packed the way both the AMX tiles
// and the dot-product instructions of AVX-512 read it: [inner / 2][16 columns][2], so that the two values a
// dot product takes from one column lie side by side. 32 inner values of a block are one tile: 1 KiB.
//
// Every element of a product is summed in the same order whatever the number of rows: a request's numbers do
// not depend on what else is in its step.
#pragma once

#include "numbers.h"

#include <type_traits>

#if defined(__AMX_BF16__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace tgi {

constexpr int ROWS = 32;        // of a product
constexpr int COLUMNS = 32;     // of a panel
constexpr int TILE_ROWS = 16;
constexpr int TILE_INNER = 32;  // values a row of a tile holds

// Values that a block of 16 columns takes.
inline int64_t block_values(int64_t inner) { return inner * LANES; }

// The two blocks of a panel, from some inner value on.
struct Blocks {
    const bf16 *first, *second;

    // At an inner value further on, a multiple of 32: what a product asks its panel.
    Blocks operator()(int64_t inner) const { return {first + block_values(inner), second + block_values(inner)}; }
};

// Asks the memory for a line that will be needed soon.
inline void ask_for(const void* line) { __builtin_prefetch(line, 0, 2); }

// Blocks that come from the memory rather than from a cache. A product without tiles asks for what lies this many
// values ahead: with several rows it has too much else to do for the processor to look that far by itself.
struct Streamed : Blocks {
    static constexpr int64_t AHEAD = 1536;
};

#if defined(__AMX_BF16__)

// Linux lets a process use the tiles once it has asked (Documentation/arch/x86/xstate.rst).
inline bool allow_tiles() {
    constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

// Tiles 0 to 3 hold the product, 4 and 5 the rows, 6 and 7 the panel's blocks. One for each thread and parallel
// region: the tiles' state is given back at its end, so that the kernel need not save it.
class Tiles {
  public:
    ~Tiles() {
        if (rows_ != 0) _tile_release();
    }

    void shape(int rows) {
        if (rows == rows_) return;
        rows_ = rows;
        struct {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t row_bytes[16] = {};
            uint8_t rows[16] = {};
        } config;
        int upper = rows < TILE_ROWS ? rows : TILE_ROWS;
        int lower = rows > TILE_ROWS ? rows - TILE_ROWS : TILE_ROWS;
        const int tile_rows[8] = {upper, upper, lower, lower, upper, lower, TILE_ROWS, TILE_ROWS};
        for (int tile = 0; tile < 8; ++tile) {
            config.row_bytes[tile] = 64;
            config.rows[tile] = uint8_t(tile_rows[tile]);
        }
        asm volatile("" ::: "memory");
        _tile_loadconfig(&config);
    }

  private:
    int rows_ = 0;
};

// product[rows][32] (+)= left[rows][inner] * panel, `inner` a multiple of 32; panel(i) answers the Blocks at i.
template <bool ADD, typename Panel>
inline void multiply(Tiles& tiles, int rows, const bf16* left, int64_t left_stride, const Panel& panel,
                     int64_t inner, float* product, int64_t product_stride) {
    // The intrinsics do not say that they read memory: what was stored for them has to be stored by now.
    asm volatile("" ::: "memory");
    tiles.shape(rows);
    const int64_t row_bytes = left_stride * 2, product_bytes = product_stride * 4;
    const bool two = rows > TILE_ROWS;
    float* lower = product + TILE_ROWS * product_stride;
    if (ADD) {
        _tile_loadd(0, product, product_bytes);
        _tile_loadd(1, product + LANES, product_bytes);
        if (two) {
            _tile_loadd(2, lower, product_bytes);
            _tile_loadd(3, lower + LANES, product_bytes);
        }
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    if (two) {
        const bf16* left_lower = left + TILE_ROWS * left_stride;
        for (int64_t i = 0; i < inner; i += TILE_INNER) {
            const Blocks blocks = panel(i);
            _tile_loadd(6, blocks.first, 64);
            _tile_loadd(4, left + i, row_bytes);
            _tile_loadd(7, blocks.second, 64);
            _tile_loadd(5, left_lower + i, row_bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(2, lower, product_bytes);
        _tile_stored(3, lower + LANES, product_bytes);
    } else {
        for (int64_t i = 0; i < inner; i += TILE_INNER) {
            const Blocks blocks = panel(i);
            _tile_loadd(6, blocks.first, 64);
            _tile_loadd(4, left + i, row_bytes);
            _tile_loadd(7, blocks.second, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
        }
    }
    _tile_stored(0, product, product_bytes);
    _tile_stored(1, product + LANES, product_bytes);
}

#else

inline bool allow_tiles() { return true; }

class Tiles {};

// Adds the products of one pair of values with a pair of each column.
inline Floats multiply_pair(Floats total, const bf16* pair, const bf16* columns) {
    uint32_t left;
    memcpy(&left, pair, sizeof left);
    Words right;
    memcpy(&right, columns, sizeof right);
#if defined(__AVX512BF16__)
    return (Floats)_mm512_dpbf16_ps((__m512)total, (__m512bh)_mm512_set1_epi32(int(left)), (__m512bh)right);
#else
    Words both = Words{} + left;
    total += (Floats)(both << 16) * (Floats)(right << 16);
    return total + (Floats)(both & 0xffff0000u) * (Floats)(right & 0xffff0000u);
#endif
}

template <bool ADD, int COUNT, typename Panel>
inline void multiply_rows(const bf16* left, int64_t left_stride, const Panel& panel, int64_t inner,
                          float* product, int64_t product_stride) {
    Floats totals[COUNT][2];
    for (int row = 0; row < COUNT; ++row)
        for (int half = 0; half < 2; ++half)
            totals[row][half] = ADD ? load(product + row * product_stride + half * LANES) : Floats{};
    for (int64_t i = 0; i < inner; i += TILE_INNER) {
        const Blocks blocks = panel(i);
        for (int64_t j = 0; j < TILE_INNER; j += 2) {
            if constexpr (std::is_same_v<Panel, Streamed>) {
                __builtin_prefetch(blocks.first + block_values(j) + Streamed::AHEAD);
                __builtin_prefetch(blocks.second + block_values(j) + Streamed::AHEAD);
            }
            for (int row = 0; row < COUNT; ++row) {
                const bf16* pair = left + row * left_stride + i + j;
                totals[row][0] = multiply_pair(totals[row][0], pair, blocks.first + block_values(j));
                totals[row][1] = multiply_pair(totals[row][1], pair, blocks.second + block_values(j));
            }
        }
    }
    for (int row = 0; row < COUNT; ++row)
        for (int half = 0; half < 2; ++half)
            store(product + row * product_stride + half * LANES, totals[row][half]);
}

// Takes rows by COUNT as long as there are so many, then those that are left at once.
template <bool ADD, int COUNT, typename Panel>
inline void multiply_groups(int rows, const bf16* left, int64_t left_stride, const Panel& panel, int64_t inner,
                            float* product, int64_t product_stride) {
    for (; rows >= COUNT; rows -= COUNT, left += COUNT * left_stride, product += COUNT * product_stride)
        multiply_rows<ADD, COUNT>(left, left_stride, panel, inner, product, product_stride);
    if constexpr (COUNT > 1)
        multiply_groups<ADD, COUNT - 1>(rows, left, left_stride, panel, inner, product, product_stride);
}

// product[rows][32] (+)= left[rows][inner] * panel, `inner` a multiple of 32; panel(i) answers the Blocks at i.
template <bool ADD, typename Panel>
inline void multiply(Tiles&, int rows, const bf16* left, int64_t left_stride, const Panel& panel, int64_t inner,
                     float* product, int64_t product_stride) {
    // Rows whose totals fit into registers beside the panel. Each instruction waits for the total that it adds to,
    // so it takes many totals to keep the processor busy.
#if defined(__AVX512F__)
    constexpr int GROUP = 12;
#else
    constexpr int GROUP = 4;
#endif
    multiply_groups<ADD, GROUP>(rows, left, left_stride, panel, inner, product, product_stride);
}

#endif

}  // namespace tgi
