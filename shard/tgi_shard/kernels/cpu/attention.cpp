// Attention that reads and writes the paged KV cache in place.
//
// A block of the cache holds 32 tokens of one key-value head as two packed matrices (see panel.h): the keys as
// one of head_dim x 32 tokens, the values as one of 32 tokens x head_dim. Scores and their sums with the values
// are then plain panel products, for a prompt's chunk and for a single decode token alike.
//
// Queries are taken in tiles of up to 32 rows: the heads that share a key-value head, for one token after the
// other. Softmax runs along with the keys (arXiv 2112.05682, 2205.14135), always in the same groups of 128
// positions: what a token attends to gives the same numbers in a chunk, alone, or behind a cached prefix.
#include "panel.h"

#include <cmath>

using namespace tgi;

namespace {

constexpr int BLOCK = 32;            // tokens in a block of the cache
constexpr int GROUP = 4 * BLOCK;     // keys between two updates of the softmax
constexpr int MAX_HEAD_DIM = 256;
constexpr float LOG2_E = 1.44269504f;

}  // namespace

extern "C" {

// One step's layout, the same for all layers. A work item is a tile of 32 query rows of one sequence and head.
struct Layout {
    int64_t tokens, sequences;
    const int64_t* slots;           // [tokens]: block * 32 + offset
    const int64_t* starts;          // [sequences + 1]: first token of each
    const int64_t* contexts;        // [sequences]: tokens in the cache, this step's included
    const int64_t* tables;          // [sequences][table_width]: blocks
    int64_t table_width;
    int64_t tiles;                  // of all sequences, for one key-value head
    const int64_t* tile_sequences;  // [tiles]
    const int64_t* tile_rows;       // [tiles]: first query row
};

// One layer's tensors; strides are from token to token, in values.
struct AttentionCall {
    const Layout* layout;
    const bf16 *query, *key, *value;
    int64_t query_stride, key_stride, value_stride;
    bf16 *keys, *values;  // the cache
    bf16* attended;       // [tokens][heads][head_dim]
    int64_t heads, kv_heads, head_dim;
    int64_t window;  // positions a token sees back, itself included; 0 for all
    float scale;
};

}

namespace {

void write_token(const Layout& layout, const AttentionCall& heads, int64_t token, int64_t head) {
    const int64_t slot = layout.slots[token], dim = heads.head_dim, offset = slot % BLOCK;
    const int64_t base = (slot / BLOCK * heads.kv_heads + head) * BLOCK * dim;
    const bf16* key = heads.key + token * heads.key_stride + head * dim;
    bf16* to = heads.keys + base + offset / LANES * block_values(dim) + offset % LANES * 2;
    for (int64_t i = 0; i < dim; i += 2) memcpy(to + i * LANES, key + i, 2 * sizeof(bf16));

    const bf16* value = heads.value + token * heads.value_stride + head * dim;
    bf16* values = heads.values + base + offset / 2 * COLUMNS + offset % 2;
    for (int64_t i = 0; i < dim; i += LANES, values += block_values(BLOCK))
        for (int64_t lane = 0; lane < LANES; ++lane) values[2 * lane] = value[i + lane];
}

// Clears the values behind a sequence's last token if this step began the block: the weights of keys that
// nobody sees are zero, but zero times a NaN that another request left there would be NaN.
void clear_rest(const Layout& layout, const AttentionCall& heads, int64_t sequence, int64_t head) {
    const int64_t last = layout.starts[sequence + 1] - 1, length = last + 1 - layout.starts[sequence];
    const int64_t slot = layout.slots[last], dim = heads.head_dim, offset = slot % BLOCK;
    if (length <= offset) return;
    bf16* values = heads.values + (slot / BLOCK * heads.kv_heads + head) * BLOCK * dim;
    const int64_t next_pair = offset / 2 + 1;
    for (int64_t i = 0; i < dim; i += LANES, values += block_values(BLOCK)) {
        memset(values + next_pair * COLUMNS, 0, size_t((BLOCK / 2 - next_pair) * COLUMNS) * sizeof(bf16));
        if (offset % 2 == 0)
            for (int64_t lane = 0; lane < LANES; ++lane) values[offset / 2 * COLUMNS + 2 * lane + 1] = 0;
    }
}

// A tile's queries, and what its softmax has come to.
struct Tile {
    alignas(64) bf16 query[ROWS * MAX_HEAD_DIM];
    alignas(64) float scores[ROWS * GROUP];
    alignas(64) bf16 weights[ROWS * GROUP];
    alignas(64) float total[ROWS * MAX_HEAD_DIM];
    float largest_score[ROWS], weight_sum[ROWS];
    int64_t first_key[ROWS], last_key[ROWS];  // what each row sees
    int rows;
};

// Turns one row's scores of keys [start, start + count) into weights and rescales what the row has so far.
void weigh_row(Tile& tile, int row, int64_t start, int count, float scale, int64_t dim) {
    float* scores = tile.scores + row * GROUP;
    const int64_t first = tile.first_key[row], last = tile.last_key[row];
    if (start < first || start + count - 1 > last) {
        const float unseen = -INFINITY;
        for (int i = 0; i < count; ++i)
            if (start + i < first || start + i > last) scores[i] = unseen;
    }
    Floats highest = load(scores);
    for (int i = LANES; i < count; i += LANES) highest = larger(highest, load(scores + i));
    const float before = tile.largest_score[row];
    float now = largest(highest);
    now = now > before ? now : before;
    // A row that has seen no key yet: any finite number will do.
    const float origin = now == -INFINITY ? 0.0f : now;
    Floats sums{};
    for (int i = 0; i < count; i += LANES) {
        const Halves weights = narrow(exp2((load(scores + i) - origin) * scale));
        sums += widen(weights);
        memcpy(tile.weights + row * GROUP + i, &weights, sizeof weights);
    }
    tile.largest_score[row] = now;
    if (now != before) {
        const float shrink = exp2(splat((before - origin) * scale))[0];
        tile.weight_sum[row] *= shrink;
        float* total = tile.total + row * dim;
        for (int64_t i = 0; i < dim; i += LANES) store(total + i, load(total + i) * shrink);
    }
    tile.weight_sum[row] += sum(sums);
}

inline void ask_for_block(const bf16* block, int64_t values) {
    constexpr int64_t LINE = 64 / sizeof(bf16);
    for (int64_t i = 0; i < values; i += LINE) ask_for(block + i);
}

void attend_tile(Tiles& tiles, Tile& tile, const Layout& layout, const AttentionCall& heads, int64_t index, int64_t head) {
    const int64_t sequence = layout.tile_sequences[index], first_row = layout.tile_rows[index];
    const int64_t start = layout.starts[sequence], length = layout.starts[sequence + 1] - start;
    const int64_t prefix = layout.contexts[sequence] - length;
    const int64_t group = heads.heads / heads.kv_heads, dim = heads.head_dim;
    const int64_t left = length * group - first_row;
    tile.rows = int(left < ROWS ? left : ROWS);
    for (int row = 0; row < tile.rows; ++row) {
        const int64_t token = (first_row + row) / group, query_head = head * group + (first_row + row) % group;
        memcpy(tile.query + row * dim, heads.query + (start + token) * heads.query_stride + query_head * dim,
               size_t(dim) * sizeof(bf16));
        const int64_t position = prefix + token;
        tile.last_key[row] = position;
        tile.first_key[row] = heads.window > 0 && position >= heads.window ? position - heads.window + 1 : 0;
        tile.largest_score[row] = -INFINITY;
        tile.weight_sum[row] = 0;
    }
    memset(tile.total, 0, size_t(tile.rows * dim) * sizeof(float));

    const int64_t* table = layout.tables + sequence * layout.table_width;
    const int64_t block_size = BLOCK * dim;
    const int64_t end = tile.last_key[tile.rows - 1] / BLOCK + 1;
    for (int64_t block = tile.first_key[0] / BLOCK; block < end;) {
        const int64_t group_end = (block * BLOCK / GROUP + 1) * GROUP / BLOCK;
        const int count = int((group_end < end ? group_end : end) - block);
        const auto place = [&](int64_t i) { return (table[i] * heads.kv_heads + head) * block_size; };
        for (int i = 0; i < count; ++i) {
            // Blocks lie scattered: no processor guesses which come next.
            ask_for_block(heads.values + place(block + i), block_size);
            if (block + i + count < end) ask_for_block(heads.keys + place(block + i + count), block_size);
            const bf16* keys = heads.keys + place(block + i);
            const Blocks panel{keys, keys + block_values(dim)};
            multiply<false>(tiles, tile.rows, tile.query, dim, panel, dim, tile.scores + i * BLOCK, GROUP);
        }
        for (int row = 0; row < tile.rows; ++row)
            weigh_row(tile, row, block * BLOCK, count * BLOCK, heads.scale * LOG2_E, dim);
        for (int64_t d = 0; d < dim; d += COLUMNS) {
            const auto panel = [&](int64_t key) {
                const bf16* values = heads.values + place(block + key / BLOCK) + d * BLOCK;
                return Blocks{values, values + block_values(BLOCK)};
            };
            multiply<true>(tiles, tile.rows, tile.weights, GROUP, panel, count * BLOCK, tile.total + d, dim);
        }
        block += count;
    }

    for (int row = 0; row < tile.rows; ++row) {
        const int64_t token = (first_row + row) / group, query_head = head * group + (first_row + row) % group;
        bf16* to = heads.attended + ((start + token) * heads.heads + query_head) * dim;
        const float factor = 1.0f / tile.weight_sum[row];
        for (int64_t i = 0; i < dim; i += LANES) store(to + i, load(tile.total + row * dim + i) * factor);
    }
}

}  // namespace

extern "C" {

// Fewer keys than this are attended before a second thread would have woken up.
constexpr int64_t ALONE = 256;

void tgi_attend(const AttentionCall* heads) {
    const Layout* layout = heads->layout;
    int64_t keys = 0;
    for (int64_t tile = 0; tile < layout->tiles; ++tile) keys += layout->contexts[layout->tile_sequences[tile]];
    const int64_t writes = layout->tokens * heads->kv_heads, work = layout->tiles * heads->kv_heads;
#pragma omp parallel if (keys * heads->kv_heads > ALONE)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < layout->sequences * heads->kv_heads; ++i)
            clear_rest(*layout, *heads, i / heads->kv_heads, i % heads->kv_heads);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < writes; ++i) write_token(*layout, *heads, i / heads->kv_heads, i % heads->kv_heads);
        Tiles tiles;
        Tile tile;
        // Later tiles of a prompt see more keys: they go first, so that the last ones to be taken are short.
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t i = 0; i < work; ++i) {
            const int64_t last = work - 1 - i;
            attend_tile(tiles, tile, *layout, *heads, last / heads->kv_heads, last % heads->kv_heads);
        }
    }
}

}
