// What all layers are made of besides products: transposes, and activations of many numbers at once.
//
// Rows (samples) are handled in blocks of 64, of which everything is stored feature by feature, the 64 rows side by side.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "vectors.hpp"

namespace ppolab {

constexpr int BLOCK = 64;

// --- transposes ------------------------------------------------------------------------------------------------------

inline void transpose_plainly(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to,
                              int64_t to_stride) {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column)
            to[column * to_stride + row] = from[row * from_stride + column];
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define PPOLAB_SHUFFLES
#endif
#endif

// LANES rows and columns: pairs of numbers change places, then pairs of pairs, then halves.
inline void transpose_square(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
#ifdef PPOLAB_SHUFFLES
    Vec row[LANES], pair[LANES], four[LANES];
    for (int i = 0; i < LANES; ++i) row[i] = load(from + i * from_stride);
    for (int i = 0; i < LANES; i += 2) {
        pair[i] = __builtin_shufflevector(row[i], row[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pair[i + 1] = __builtin_shufflevector(row[i], row[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int k = 0; k < 2; ++k) {
            const Vec a = pair[i + k], b = pair[i + k + 2];
            four[i + 2 * k] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
            four[i + 2 * k + 1] = __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; ++i) {
        store(to + i * to_stride, __builtin_shufflevector(four[i], four[i + 4], 0, 1, 2, 3, 8, 9, 10, 11));
        store(to + (i + 4) * to_stride, __builtin_shufflevector(four[i], four[i + 4], 4, 5, 6, 7, 12, 13, 14, 15));
    }
#else
    transpose_plainly(from, from_stride, LANES, LANES, to, to_stride);
#endif
}

// [rows, columns] -> [columns, rows]
inline void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to,
                      int64_t to_stride) {
    const int64_t whole_rows = rows / LANES * LANES, whole_columns = columns / LANES * LANES;
    for (int64_t row = 0; row < whole_rows; row += LANES)
        for (int64_t column = 0; column < whole_columns; column += LANES)
            transpose_square(from + row * from_stride + column, from_stride, to + column * to_stride + row, to_stride);
    transpose_plainly(from + whole_columns, from_stride, whole_rows, columns - whole_columns,
                      to + whole_columns * to_stride, to_stride);
    transpose_plainly(from + whole_rows * from_stride, from_stride, rows - whole_rows, columns, to + whole_rows,
                      to_stride);
}

// --- activations -----------------------------------------------------------------------------------------------------

// The smaller and the larger of two numbers; NaN stays NaN.
template <class V>
inline V at_most(V value, float high) {
    return value > high ? broadcast<V>(high) : value;
}

template <class V>
inline V at_least(V value, float low) {
    return value < low ? broadcast<V>(low) : value;
}

#ifdef __AVX2__
// One instruction instead of two, which compilers do not find; it returns its second operand if one is NaN.
inline Vec at_most(Vec value, float high) { return _mm256_min_ps(broadcast(high), value); }
inline Vec at_least(Vec value, float low) { return _mm256_max_ps(broadcast(low), value); }
#endif
#ifdef __AVX512F__
inline Wide at_most(Wide value, float high) { return _mm512_min_ps(broadcast<Wide>(high), value); }
inline Wide at_least(Wide value, float low) { return _mm512_max_ps(broadcast<Wide>(low), value); }
#endif

template <class V>
inline V within(V value, float low, float high) {
    return at_least(at_most(value, high), low);
}

inline float square_root(float value) { return std::sqrt(value); }

template <class V>
inline V square_root(V value) {
    for (int lane = 0; lane < lanes_of<V>(); ++lane) value[lane] = std::sqrt(value[lane]);
    return value;
}

#ifdef __AVX2__
inline Vec square_root(Vec value) { return _mm256_sqrt_ps(value); }
#endif
#ifdef __AVX512F__
inline Wide square_root(Wide value) { return _mm512_sqrt_ps(value); }
#endif

// x P(x^2) / Q(x^2), a least-squares fit of tanh on |x| < 9.1, where float tanh becomes 1; off by at most 3e-7.
template <class V>
inline V hyperbolic_tangent(V value) {
    const V x = within(value, -9.1f, 9.1f);
    const V y = x * x;
    V p = broadcast<V>(-1.203372988e-11f);
    p = p * y + 3.035568526e-08f;
    p = p * y + 2.791201297e-05f;
    p = p * y + 3.863597067e-03f;
    p = p * y + 1.367614007e-01f;
    p = p * y + 9.999999986e-01f;
    V q = broadcast<V>(1.280699697e-06f);
    q = q * y + 3.930290271e-04f;
    q = q * y + 2.722852624e-02f;
    q = q * y + 4.700947201e-01f;
    q = q * y + 1.0f;
    return within(x * p / q, -1.0f, 1.0f);
}

// Unsigned numbers of the size of a float, as many as V has.
template <class V>
struct BitsOf {
    typedef uint32_t type __attribute__((vector_size(sizeof(V))));
};

// e^x for x within [-87, 87]: x = n ln 2 + r (Cody & Waite), then Cephes' polynomial in r; relative error below 2e-7.
template <class V>
inline V exponential(V value) {
    typedef typename BitsOf<V>::type Bits;
    constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23: a float of this size is a whole number, in its lowest bits
    const V x = within(value, -87.0f, 87.0f);
    const V shifted = x * 1.44269504f + SHIFT;
    const V n = shifted - SHIFT;
    const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    V p = broadcast<V>(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const Bits power = ((Bits)shifted + 127) << 23;  // 2^n; the shift pushes the bits of SHIFT out
    return p * (V)power;
}

// Sums of every 64th number, side by side, and then of those: one sum would wait for each of its additions.
inline double sum_of_squares(const float* values, int64_t size) {
    constexpr int COUNT = 64 / WIDE_LANES;
    Wide sums[COUNT] = {};
    int64_t at = 0;
    for (; at + 64 <= size; at += 64)
        for (int i = 0; i < COUNT; ++i) {
            const Wide value = load<Wide>(values + at + i * WIDE_LANES);
            sums[i] += value * value;
        }
    double total = 0.0;
    for (const Wide& sum : sums)
        for (int lane = 0; lane < WIDE_LANES; ++lane) total += sum[lane];
    for (; at < size; ++at) total += static_cast<double>(values[at]) * values[at];
    return total;
}

// A value f(z), and the slope f'(z).
template <class V>
struct Activated {
    V value, slope;
};

// z times the normal distribution's Phi(z), and Phi(z) + z phi(z): Hendrycks & Gimpel 2016 (arXiv:1606.08415). The error
// function is Abramowitz & Stegun 7.1.26, off by at most 1.5e-7.
template <class V>
inline Activated<V> gelu(V z) {
    const V size = z < 0.0f ? -z : z;
    const V t = 1.0f / (1.0f + 0.231641888f * size);  // 0.3275911 / sqrt(2)
    const V bell = exponential(-0.5f * (z * z));
    V p = broadcast<V>(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const V tail = 0.5f * p * t * bell;  // Phi(-|z|)
    const V phi = z < 0.0f ? tail : 1.0f - tail;
    return {z * phi, phi + 0.398942280f * z * bell};
}

// z s(z) with s = 1 / (1 + e^-z), and s (1 + z (1 - s)): the same paper, section 2.
template <class V>
inline Activated<V> silu(V z) {
    const V s = 1.0f / (1.0f + exponential(-z));
    return {z * s, s * (1.0f + z * (1.0f - s))};
}

// Clevert et al. 2016 (arXiv:1511.07289), alpha 1.
template <class V>
inline V elu(V z) {
    return z > 0.0f ? z : exponential(z) - 1.0f;
}

enum Activation : int64_t { TANH = 0, RELU = 1, ELU = 2, GELU = 3, SILU = 4 };

// Whether f'(z) does not follow from f(z): their values do not tell on which side of the minimum z lies.
inline bool keeps_slopes(Activation activation) { return activation == GELU || activation == SILU; }

template <class Function>
inline void replace(float* values, int64_t size, Function function) {
    for (int64_t i = 0; i < size; i += WIDE_LANES) store(values + i, function(load<Wide>(values + i)));
}

// values = f(z), of which they hold the z before; slopes = f'(z), where it does not follow from f(z) and is wanted.
template <class Function>
inline void replace_and_keep(float* values, float* slopes, int64_t size, Function function) {
    if (!slopes) return replace(values, size, [&](Wide z) { return function(z).value; });
    for (int64_t i = 0; i < size; i += WIDE_LANES) {
        const Activated<Wide> result = function(load<Wide>(values + i));
        store(values + i, result.value);
        store(slopes + i, result.slope);
    }
}

// Calls function(place, size) for the first `lanes` rows of every one of [features, 64].
template <class Function>
inline void for_features(int64_t features, int64_t lanes, Function function) {
    if (lanes == BLOCK) return function(0, BLOCK * features);
    for (int64_t m = 0; m < features; ++m) function(m * BLOCK, lanes);
}

inline void activate(Activation activation, float* values, float* slopes, int64_t size) {
    switch (activation) {
        case TANH: return replace(values, size, hyperbolic_tangent<Wide>);
        case RELU: return replace(values, size, [](Wide z) { return z < 0.0f ? Wide{} : z; });
        case ELU: return replace(values, size, elu<Wide>);
        case GELU: return replace_and_keep(values, slopes, size, gelu<Wide>);
        case SILU: return replace_and_keep(values, slopes, size, silu<Wide>);
    }
}

// gradients *= f'(z), from a kept number for each: f'(z) where `keeps_slopes`, else the activated value f(z).
template <class Function>
inline void multiply(const float* kept, float* gradients, int64_t size, Function by_slope) {
    for (int64_t i = 0; i < size; i += WIDE_LANES)
        store(gradients + i, by_slope(load<Wide>(kept + i), load<Wide>(gradients + i)));
}

inline void through_activation(Activation activation, const float* kept, float* gradients, int64_t size) {
    switch (activation) {
        case TANH:
            return multiply(kept, gradients, size, [](Wide value, Wide g) { return g * (1.0f - value * value); });
        case RELU: return multiply(kept, gradients, size, [](Wide value, Wide g) { return value > 0.0f ? g : Wide{}; });
        case ELU:
            return multiply(kept, gradients, size,
                            [](Wide value, Wide g) { return value > 0.0f ? g : g * (value + 1.0f); });
        case GELU:
        case SILU: return multiply(kept, gradients, size, [](Wide slope, Wide g) { return g * slope; });
    }
}

}  // namespace ppolab
