// The steps of recurrent layers, forwards and backwards in time. What does not depend on the step before, such as the
// products with the inputs and the sums over time, is left to one large product of the caller.
//
// Arrays are time-major: T steps, B rows, H units (a multiple of LANES), gates side by side. `keep` [T, B] is 0 where the
// state before a step is forgotten, else 1; null: kept everywhere. ppolab/learning/memory.py has the equations.
#pragma once

#include "network.hpp"

namespace ppolab {

struct Shape {
    int64_t steps, rows, size;
};

inline Vec sigmoid(Vec value) { return hyperbolic_tangent(value * 0.5f) * 0.5f + 0.5f; }

// ROWS rows of C += A B, in tiles of up to COLUMNS vectors.
template <int ROWS, int COLUMNS>
inline void add_rows(int64_t columns, int64_t depth, const float* a, const float* b, float* c) {
    const Factors factors{a, depth, 1};
    int64_t n = 0;
    for (; n + COLUMNS * WIDE_LANES <= columns; n += COLUMNS * WIDE_LANES)
        tile<Wide, ROWS, COLUMNS, Start::RESULT>(depth, factors, {b + n, columns, c + n, columns, nullptr});
    product<Start::RESULT>(ROWS, columns - n, depth, factors, b + n, columns, c + n, columns);
}

// C += A B, where a few rows are the whole: the fewer there are, the wider are the tiles.
inline void add_product(int64_t rows, int64_t columns, int64_t depth, const float* a, const float* b, float* c) {
    const int64_t whole = rows / 4 * 4;
    product<Start::RESULT>(whole, columns, depth, {a, depth, 1}, b, columns, c, columns);
    int64_t m = whole;
    for (; m + 2 <= rows; m += 2) add_rows<2, 4>(columns, depth, a + m * depth, b, c + m * columns);
    if (m < rows) add_rows<1, 8>(columns, depth, a + m * depth, b, c + m * columns);
}

// to [B, H] = from [B, H], or 0 in rows that are forgotten.
inline void kept_state(const Shape& shape, const float* from, const float* keep, float* to) {
    for (int64_t row = 0; row < shape.rows; ++row)
        for (int64_t k = 0; k < shape.size; ++k)
            to[row * shape.size + k] = keep && keep[row] == 0.0f ? 0.0f : from[row * shape.size + k];
}

// projected [T, B, 3H], state [B, H], weights [H, 3H], bias [3H] ->
// outputs [T, B, H]; before [T, B, H], the kept states; gates [T, B, 4H]: r, z, n, and U_n h + its bias.
inline void gru_forward(const Shape& shape, const float* projected, const float* state, const float* keep,
                        const float* weights, const float* bias, float* outputs, float* before, float* gates) {
    const int64_t size = shape.size, cells = shape.rows * size;
    std::vector<float> products(3 * cells);
    for (int64_t t = 0; t < shape.steps; ++t) {
        float* const held = before + t * cells;
        kept_state(shape, t ? outputs + (t - 1) * cells : state, keep ? keep + t * shape.rows : nullptr, held);
        for (int64_t row = 0; row < shape.rows; ++row) std::copy(bias, bias + 3 * size, &products[row * 3 * size]);
        add_product(shape.rows, 3 * size, size, held, weights, products.data());
        for (int64_t row = 0; row < shape.rows; ++row) {
            const float* const x = projected + (t * shape.rows + row) * 3 * size;
            const float* const u = &products[row * 3 * size];
            float* const gate = gates + (t * shape.rows + row) * 4 * size;
            for (int64_t k = 0; k < size; k += LANES) {
                const Vec r = sigmoid(load(x + k) + load(u + k));
                const Vec z = sigmoid(load(x + size + k) + load(u + size + k));
                const Vec product = load(u + 2 * size + k);
                const Vec n = hyperbolic_tangent(load(x + 2 * size + k) + r * product);
                store(gate + k, r);
                store(gate + size + k, z);
                store(gate + 2 * size + k, n);
                store(gate + 3 * size + k, product);
                store(outputs + t * cells + row * size + k, n + z * (load(held + row * size + k) - n));
            }
        }
    }
}

// slopes [T, B, H] of the outputs, weights [3H, H] ->
// of_inputs [T, B, 3H], of_products [T, B, 3H], and of_state [B, H]: slopes of the same of `gru_forward`.
inline void gru_backward(const Shape& shape, const float* slopes, const float* keep, const float* weights,
                         const float* before, const float* gates, float* of_inputs, float* of_products,
                         float* of_state) {
    const int64_t size = shape.size, cells = shape.rows * size;
    std::fill(of_state, of_state + cells, 0.0f);
    for (int64_t t = shape.steps - 1; t >= 0; --t) {
        for (int64_t row = 0; row < shape.rows; ++row) {
            const int64_t place = t * shape.rows + row;
            const float* const gate = gates + place * 4 * size;
            float* const x = of_inputs + place * 3 * size;
            float* const u = of_products + place * 3 * size;
            for (int64_t k = 0; k < size; k += LANES) {
                const Vec r = load(gate + k), z = load(gate + size + k), n = load(gate + 2 * size + k);
                const Vec slope = load(slopes + place * size + k) + load(of_state + row * size + k);
                const Vec by_n = slope * (1.0f - z) * (1.0f - n * n);
                const Vec by_z = slope * (load(before + place * size + k) - n) * z * (1.0f - z);
                const Vec by_r = by_n * load(gate + 3 * size + k) * r * (1.0f - r);
                store(x + k, by_r);
                store(x + size + k, by_z);
                store(x + 2 * size + k, by_n);
                store(u + k, by_r);
                store(u + size + k, by_z);
                store(u + 2 * size + k, by_n * r);
                store(of_state + row * size + k, slope * z);
            }
        }
        add_product(shape.rows, size, 3 * size, of_products + t * shape.rows * 3 * size, weights, of_state);
        kept_state(shape, of_state, keep ? keep + t * shape.rows : nullptr, of_state);
    }
}

// projected [T, B, 4H], state [2, B, H], weights [H, 4H] ->
// outputs [T, B, H]; cells [T, B, H]; before [2, T, B, H], the kept states; gates [T, B, 4H]: i, f, g, o.
inline void lstm_forward(const Shape& shape, const float* projected, const float* state, const float* keep,
                         const float* weights, float* outputs, float* cells, float* before, float* gates) {
    const int64_t size = shape.size, count = shape.rows * size;
    float* const cells_before = before + shape.steps * count;
    std::copy(projected, projected + shape.steps * 4 * count, gates);
    for (int64_t t = 0; t < shape.steps; ++t) {
        const float* const kept = keep ? keep + t * shape.rows : nullptr;
        kept_state(shape, t ? outputs + (t - 1) * count : state, kept, before + t * count);
        kept_state(shape, t ? cells + (t - 1) * count : state + count, kept, cells_before + t * count);
        float* const now = gates + t * 4 * count;
        add_product(shape.rows, 4 * size, size, before + t * count, weights, now);
        for (int64_t row = 0; row < shape.rows; ++row) {
            float* const gate = now + row * 4 * size;
            for (int64_t k = 0; k < size; k += LANES) {
                const int64_t place = t * count + row * size + k;
                const Vec i = sigmoid(load(gate + k)), f = sigmoid(load(gate + size + k));
                const Vec g = hyperbolic_tangent(load(gate + 2 * size + k)), o = sigmoid(load(gate + 3 * size + k));
                const Vec cell = f * load(cells_before + place) + i * g;
                store(gate + k, i);
                store(gate + size + k, f);
                store(gate + 2 * size + k, g);
                store(gate + 3 * size + k, o);
                store(cells + place, cell);
                store(outputs + place, o * hyperbolic_tangent(cell));
            }
        }
    }
}

// slopes [T, B, H] of the outputs, weights [4H, H] -> of_products [T, B, 4H], which are those of the inputs, too.
// of_state [2, B, H] holds the slope of the last cell in its second half, and then those of the state before all steps.
inline void lstm_backward(const Shape& shape, const float* slopes, const float* keep, const float* weights,
                          const float* cells, const float* before, const float* gates, float* of_products,
                          float* of_state) {
    const int64_t size = shape.size, count = shape.rows * size;
    const float* const cells_before = before + shape.steps * count;
    float* const of_cell = of_state + count;
    std::fill(of_state, of_state + count, 0.0f);
    for (int64_t t = shape.steps - 1; t >= 0; --t) {
        for (int64_t row = 0; row < shape.rows; ++row) {
            const float* const gate = gates + (t * shape.rows + row) * 4 * size;
            float* const u = of_products + (t * shape.rows + row) * 4 * size;
            for (int64_t k = 0; k < size; k += LANES) {
                const int64_t place = t * count + row * size + k;
                const Vec i = load(gate + k), f = load(gate + size + k), g = load(gate + 2 * size + k);
                const Vec o = load(gate + 3 * size + k), shown = hyperbolic_tangent(load(cells + place));
                const Vec slope = load(slopes + place) + load(of_state + row * size + k);
                const Vec by_cell = load(of_cell + row * size + k) + slope * o * (1.0f - shown * shown);
                store(u + k, by_cell * g * i * (1.0f - i));
                store(u + size + k, by_cell * load(cells_before + place) * f * (1.0f - f));
                store(u + 2 * size + k, by_cell * i * (1.0f - g * g));
                store(u + 3 * size + k, slope * shown * o * (1.0f - o));
                store(of_cell + row * size + k, by_cell * f);
            }
        }
        std::fill(of_state, of_state + count, 0.0f);
        add_product(shape.rows, size, 4 * size, of_products + t * 4 * count, weights, of_state);
        const float* const kept = keep ? keep + t * shape.rows : nullptr;
        kept_state(shape, of_state, kept, of_state);
        kept_state(shape, of_cell, kept, of_cell);
    }
}

}  // namespace ppolab
