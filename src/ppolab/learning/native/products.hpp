// Products of matrices, C (+)= A B, in tiles whose sums stay in registers.
//
// A number of C is one chain of multiply-adds over the depth, in its order, whatever the tiles, the panels and the
// vectors are. So it depends neither on other rows and columns nor on how a product is cut.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "vectors.hpp"

namespace ppolab {

// What the sums begin with: 0, what C holds, or one number for each row.
enum class Start { ZERO, RESULT, BIAS };

// A(m, k) at data[m * row + k * column].
struct Factors {
    const float* data;
    int64_t row, column;

    const float* at(int64_t m, int64_t k) const { return data + m * row + k * column; }
    Factors from(int64_t m, int64_t k = 0) const { return {at(m, k), row, column}; }
};

// Rows of B or C, and where the numbers of a `Start::BIAS` are.
struct Panel {
    const float* b;
    int64_t b_stride;
    float* c;
    int64_t c_stride;
    const float* bias;

    Panel row(int64_t m) const { return {b, b_stride, c + m * c_stride, c_stride, bias ? bias + m : nullptr}; }
    Panel column(int64_t n) const { return {b + n, b_stride, c + n, c_stride, bias}; }
};

// 16 sums at a time of 32 registers, or 12 of 16: a processor adds to eight or more at once.
#ifdef __AVX512F__
constexpr int TILE_ROWS = 4, TILE_VECTORS = 4, FEW_ROWS = 8;
#else
constexpr int TILE_ROWS = 6, TILE_VECTORS = 2, FEW_ROWS = 6;
#endif
constexpr int64_t PANEL = 64;                       // columns of B that go together
constexpr int64_t DEPTH = 128;                      // and how many of their rows: 32 KiB stay in the nearest cache
constexpr int64_t GROUP = 8 * TILE_ROWS, GROUPS = WIDE_LANES / 4;  // rows of A that are copied together
constexpr int64_t FAR = 128;                        // steps through A that are longer than this are made once, for a copy

template <int N>
using Size = std::integral_constant<int, N>;

template <class V, int ROWS, int COLUMNS, Start START>
inline void tile(int64_t depth, Factors a, Panel panel) {
    constexpr int LENGTH = lanes_of<V>();
    V sums[ROWS][COLUMNS];
    for (int m = 0; m < ROWS; ++m)
        for (int n = 0; n < COLUMNS; ++n) {
            if constexpr (START == Start::ZERO) sums[m][n] = V{};
            if constexpr (START == Start::RESULT) sums[m][n] = load<V>(panel.c + m * panel.c_stride + n * LENGTH);
            if constexpr (START == Start::BIAS) sums[m][n] = broadcast<V>(panel.bias[m]);
        }
    for (int64_t k = 0; k < depth; ++k) {
        V row[COLUMNS];
        for (int n = 0; n < COLUMNS; ++n) row[n] = load<V>(panel.b + k * panel.b_stride + n * LENGTH);
        for (int m = 0; m < ROWS; ++m) {
            const V factor = broadcast<V>(*a.at(m, k));
            for (int n = 0; n < COLUMNS; ++n) sums[m][n] += factor * row[n];
        }
    }
    for (int m = 0; m < ROWS; ++m)
        for (int n = 0; n < COLUMNS; ++n) store(panel.c + m * panel.c_stride + n * LENGTH, sums[m][n]);
}

// COLUMNS vectors of all rows: the fewer vectors, the more rows at a time.
template <class V, int COLUMNS, Start START>
inline void rows_of_tiles(int64_t rows, int64_t depth, Factors a, Panel panel) {
    int64_t m = 0;
    const auto by = [&](auto size) {
        constexpr int ROWS = decltype(size)::value;
        for (; m + ROWS <= rows; m += ROWS) tile<V, ROWS, COLUMNS, START>(depth, a.from(m), panel.row(m));
    };
    if constexpr (COLUMNS <= 2) by(Size<FEW_ROWS>{});
    by(Size<4>{});
    by(Size<2>{});
    by(Size<1>{});
}

// At most PANEL columns: the rows of A of a tile meet all of them while they are near.
template <Start START>
inline void columns_of_panel(int64_t rows, int64_t columns, int64_t depth, Factors a, Panel panel) {
    constexpr int64_t WIDTH = TILE_VECTORS * WIDE_LANES;
    int64_t n = columns / WIDTH * WIDTH;
    for (int64_t m = 0; m < rows && n; m += TILE_ROWS)
        for (int64_t at = 0; at < n; at += WIDTH)
            rows_of_tiles<Wide, TILE_VECTORS, START>(std::min<int64_t>(TILE_ROWS, rows - m), depth, a.from(m),
                                                     panel.row(m).column(at));
    const auto rest = [&](auto size) {
        constexpr int COLUMNS = decltype(size)::value;
        if (columns - n < COLUMNS * WIDE_LANES) return;
        rows_of_tiles<Wide, COLUMNS, START>(rows, depth, a, panel.column(n));
        n += COLUMNS * WIDE_LANES;
    };
    if constexpr (TILE_VECTORS == 4) {
        rest(Size<3>{});
        rest(Size<2>{});
    }
    rest(Size<1>{});
    if constexpr (WIDE_LANES > LANES)
        if (n < columns) rows_of_tiles<Vec, 1, START>(rows, depth, a, panel.column(n));
}

// Whole groups of rows of A, each copied to where its numbers lie side by side. Returns how many rows that were.
template <Start START>
inline int64_t groups_of_panel(int64_t rows, int64_t columns, int64_t depth, Factors a, Panel panel) {
    alignas(64) float copy[GROUPS][DEPTH * GROUP];
    int64_t m = 0;
    for (; m + GROUPS * GROUP <= rows; m += GROUPS * GROUP) {
        for (int64_t k = 0; k < depth; ++k)
            for (int64_t i = 0; i < GROUPS; ++i)
                std::memcpy(copy[i] + k * GROUP, a.at(m + i * GROUP, k), GROUP * sizeof(float));
        for (int64_t i = 0; i < GROUPS; ++i)
            columns_of_panel<START>(GROUP, columns, depth, {copy[i], 1, GROUP}, panel.row(m + i * GROUP));
    }
    return m;
}

// C (+)= A B of at most DEPTH rows of B.
template <Start START>
inline void slice_of_product(int64_t rows, int64_t columns, int64_t depth, Factors a, Panel whole) {
    alignas(64) float copy[DEPTH * PANEL];
    for (int64_t n = 0; n < columns; n += PANEL) {
        const int64_t width = std::min(PANEL, columns - n);
        Panel panel = whole.column(n);
        if (panel.b_stride > PANEL && rows >= STRIP) {
            for (int64_t k = 0; k < depth; ++k)
                std::memcpy(copy + k * PANEL, panel.b + k * panel.b_stride, width * sizeof(float));
            panel.b = copy;
            panel.b_stride = PANEL;
        }
        int64_t m = 0;
        if (a.row == 1 && a.column > FAR) m = groups_of_panel<START>(rows, width, depth, a, panel);
        columns_of_panel<START>(rows - m, width, depth, a.from(m), panel.row(m));
    }
}

// C [rows, columns] (+)= A [rows, depth] B [depth, columns], for `columns` a multiple of LANES.
template <Start START>
inline void product(int64_t rows, int64_t columns, int64_t depth, Factors a, const float* b, int64_t b_stride, float* c,
                    int64_t c_stride, const float* bias = nullptr) {
    slice_of_product<START>(rows, columns, std::min(depth, DEPTH), a, {b, b_stride, c, c_stride, bias});
    for (int64_t k = DEPTH; k < depth; k += DEPTH)
        slice_of_product<Start::RESULT>(rows, columns, std::min(DEPTH, depth - k), a.from(0, k),
                                        {b + k * b_stride, b_stride, c, c_stride, nullptr});
}

}  // namespace ppolab
