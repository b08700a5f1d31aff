// Convolutions of images of bytes, each followed by ReLU: forwards and backwards, sample by sample.
//
// Everything is channels-last: the numbers that a kernel's row meets lie side by side, so every product is of broadcast
// numbers with contiguous ones, as in products.hpp. All layers of a sample follow one another while they are in the cache.
// Samples are handled in groups, whose gradients are added up in their order: the result does not depend on the threads.
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <thread>

#include "vectors.hpp"

#ifdef __linux__
extern "C" void GOMP_parallel(void (*job)(void*), void* data, unsigned threads, unsigned flags) __attribute__((weak));
#endif

namespace ppolab {

// Tiles of sums in registers: 16 or more chains of additions, as many as a processor works on at a time.
#ifdef __AVX512F__
constexpr int WIDTHS[] = {4, 2, 1}, HEIGHTS[] = {6, 8, 8};
#else
constexpr int WIDTHS[] = {2, 1, 1}, HEIGHTS[] = {4, 8, 8};
#endif
constexpr int64_t SAMPLES = 32;  // of a group

// A layer without padding: `side` x `side` windows, `stride` apart.
struct Convolution {
    int64_t inputs, in_height, in_width, outputs, side, stride;

    int64_t height() const { return (in_height - side) / stride + 1; }
    int64_t width() const { return (in_width - side) / stride + 1; }
    int64_t pixels() const { return height() * width(); }
    int64_t in_size() const { return inputs * in_height * in_width; }
    int64_t out_size() const { return outputs * pixels(); }
    int64_t pitch() const { return in_width * inputs; }         // of rows of the input
    int64_t run() const { return side * inputs; }               // what a row of the kernel meets
    int64_t depth() const { return side * run(); }
    int64_t weights() const { return outputs * depth(); }
    // Where the window of a pixel begins in the input.
    int64_t window(int64_t pixel) const { return pixel / width() * stride * pitch() + pixel % width() * stride * inputs; }
};

// Does job(i) for all i < count, by so many threads: PyTorch's own where it has GNU's, since two sets of threads that wait
// for work would take each other's cores.
class Team {
  public:
    static void all(int64_t threads, int64_t count, const std::function<void(int64_t)>& job) {
        Team team(count, job);
        threads = std::min(threads, count);
        if (threads <= 1) return team.work();
#ifdef __linux__
        if (GOMP_parallel) return GOMP_parallel([](void* it) { static_cast<Team*>(it)->work(); }, &team, threads, 0);
#endif
        std::vector<std::thread> others;
        for (int64_t i = 1; i < threads; ++i) others.emplace_back([&] { team.work(); });
        team.work();
        for (std::thread& other : others) other.join();
    }

  private:
    Team(int64_t count, const std::function<void(int64_t)>& job) : count_(count), job_(job) {}

    void work() {
        for (int64_t i; (i = next_.fetch_add(1)) < count_;) job_(i);
    }

    int64_t count_;
    const std::function<void(int64_t)>& job_;
    std::atomic<int64_t> next_{0};
};

template <class Call>
inline void by_columns(int64_t columns, const Call& call) {
    int64_t at = 0;
    const auto take = [&](auto vectors, auto rows) {
        constexpr int64_t LENGTH = decltype(vectors)::value * WIDE_LANES;
        for (; at + LENGTH <= columns; at += LENGTH) call(vectors, rows, at);
    };
    take(std::integral_constant<int, WIDTHS[0]>{}, std::integral_constant<int, HEIGHTS[0]>{});
    take(std::integral_constant<int, WIDTHS[1]>{}, std::integral_constant<int, HEIGHTS[1]>{});
    take(std::integral_constant<int, WIDTHS[2]>{}, std::integral_constant<int, HEIGHTS[2]>{});
}

// Calls call(ROWS, first) for as many rows at a time as there are.
template <int ROWS, class Call>
inline void by_rows(int64_t rows, const Call& call, int64_t first = 0) {
    for (; first + ROWS <= rows; first += ROWS) call(std::integral_constant<int, ROWS>{}, first);
    if constexpr (ROWS > 1)
        if (first < rows) by_rows<(ROWS > 4 ? 4 : ROWS / 2)>(rows, call, first);
}

// One matrix after another of as many columns as a tile has: [columns / WIDTH][depth][WIDTH].
// value(k, n) is what stands in row k and column n.
template <class Value>
inline void pack(int64_t columns, int64_t depth, float* to, const Value& value) {
    by_columns(columns, [&](auto vectors, auto, int64_t at) {
        constexpr int64_t LENGTH = decltype(vectors)::value * WIDE_LANES;
        for (int64_t k = 0; k < depth; ++k)
            for (int64_t n = 0; n < LENGTH; ++n) *to++ = value(k, at + n);
    });
}

// Slopes [depth, outputs] of a layer's weights in the form that PyTorch has.
inline void unpack(const Convolution& layer, const float* from, float scale, float* to) {
    const int64_t square = layer.side * layer.side;
    for (int64_t n = 0; n < layer.outputs; ++n)
        for (int64_t channel = 0; channel < layer.inputs; ++channel)
            for (int64_t place = 0; place < square; ++place)
                *to++ = from[(place * layer.inputs + channel) * layer.outputs + n] * scale;
}

// The weights of a layer, in the forms that its three products read.
struct PackedWeights {
    Buffer forward, backward;

    // weights [outputs, inputs, side, side], as PyTorch has them.
    void pack_forward(const Convolution& layer, const float* weights, float scale) {
        grow(forward, layer.weights());
        const int64_t square = layer.side * layer.side;
        pack(layer.outputs, layer.depth(), forward.data(), [&](int64_t k, int64_t n) {
            return weights[(n * layer.inputs + k % layer.inputs) * square + k / layer.inputs] * scale;
        });
    }

    void pack_backward(const Convolution& layer, const float* weights) {
        grow(backward, layer.weights());
        const int64_t square = layer.side * layer.side, size = layer.run() * layer.outputs;
        for (int64_t row = 0; row < layer.side; ++row)
            pack(layer.run(), layer.outputs, &backward[row * size], [&](int64_t k, int64_t n) {
                return weights[(k * layer.inputs + n % layer.inputs) * square + row * layer.side + n / layer.inputs];
            });
    }
};

// out [pixels, outputs] = relu(windows of in, times weights, plus bias)
inline void convolve(const Convolution& layer, const float* in, const float* weights, const float* bias, float* out) {
    const int64_t run = layer.run(), pitch = layer.pitch(), outputs = layer.outputs;
    by_columns(outputs, [&](auto vectors, auto most, int64_t column) {
        constexpr int VECTORS = decltype(vectors)::value, LENGTH = VECTORS * WIDE_LANES;
        const float* const packed = weights + column * layer.depth();
        by_rows<decltype(most)::value>(layer.pixels(), [&](auto rows, int64_t first) {
            constexpr int ROWS = decltype(rows)::value;
            const float* at[ROWS];
            for (int m = 0; m < ROWS; ++m) at[m] = in + layer.window(first + m);
            Wide sums[ROWS][VECTORS];
            for (int m = 0; m < ROWS; ++m)
                for (int n = 0; n < VECTORS; ++n) sums[m][n] = load<Wide>(bias + column + n * WIDE_LANES);
            const float* factors = packed;
            for (int64_t row = 0; row < layer.side; ++row)
                for (int64_t k = row * pitch; k < row * pitch + run; ++k, factors += LENGTH) {
                    Wide line[VECTORS];
                    for (int n = 0; n < VECTORS; ++n) line[n] = load<Wide>(factors + n * WIDE_LANES);
                    for (int m = 0; m < ROWS; ++m) {
                        const Wide factor = broadcast<Wide>(at[m][k]);
                        for (int n = 0; n < VECTORS; ++n) sums[m][n] += factor * line[n];
                    }
                }
            for (int m = 0; m < ROWS; ++m)
                for (int n = 0; n < VECTORS; ++n) {
                    const Wide sum = sums[m][n];
                    store(out + (first + m) * outputs + column + n * WIDE_LANES, sum > 0.0f ? sum : Wide{});
                }
        });
    });
}

// of_in [in_size] = what slopes [pixels, outputs] say of the input.
inline void slopes_of_input(const Convolution& layer, const float* slopes, const float* weights, float* of_in) {
    const int64_t run = layer.run(), outputs = layer.outputs;
    std::fill(of_in, of_in + layer.in_size(), 0.0f);
    for (int64_t row = 0; row < layer.side; ++row)
        by_columns(run, [&](auto vectors, auto most, int64_t column) {
            constexpr int VECTORS = decltype(vectors)::value, LENGTH = VECTORS * WIDE_LANES;
            const float* const packed = weights + (row * run + column) * outputs;
            by_rows<decltype(most)::value>(layer.pixels(), [&](auto rows, int64_t first) {
                constexpr int ROWS = decltype(rows)::value;
                Wide sums[ROWS][VECTORS] = {};
                const float* const slope = slopes + first * outputs;
                const float* factors = packed;
                for (int64_t k = 0; k < outputs; ++k, factors += LENGTH) {
                    Wide line[VECTORS];
                    for (int n = 0; n < VECTORS; ++n) line[n] = load<Wide>(factors + n * WIDE_LANES);
                    for (int m = 0; m < ROWS; ++m) {
                        const Wide factor = broadcast<Wide>(slope[m * outputs + k]);
                        for (int n = 0; n < VECTORS; ++n) sums[m][n] += factor * line[n];
                    }
                }
                for (int m = 0; m < ROWS; ++m) {
                    float* const to = of_in + layer.window(first + m) + row * layer.pitch() + column;
                    for (int n = 0; n < VECTORS; ++n)
                        store(to + n * WIDE_LANES, load<Wide>(to + n * WIDE_LANES) + sums[m][n]);
                }
            });
        });
}

// of_weights [depth, outputs] += what slopes [pixels, outputs] and the input say of the weights; of_bias [outputs] too.
inline void add_slopes_of_weights(const Convolution& layer, const float* in, const float* slopes, float* of_weights,
                                  float* of_bias) {
    const int64_t outputs = layer.outputs, height = layer.height(), width = layer.width();
    const int64_t down = layer.stride * layer.pitch(), right = layer.stride * layer.inputs;
    by_columns(outputs, [&](auto vectors, auto, int64_t column) {
        constexpr int VECTORS = decltype(vectors)::value, MOST = VECTORS > 2 ? 4 : 8;
        for (int64_t row = 0; row < layer.side; ++row)
            by_rows<MOST>(layer.run(), [&](auto rows, int64_t first) {
                constexpr int ROWS = decltype(rows)::value;
                float* const to = of_weights + (row * layer.run() + first) * outputs + column;
                Wide sums[ROWS][VECTORS];
                for (int m = 0; m < ROWS; ++m)
                    for (int n = 0; n < VECTORS; ++n) sums[m][n] = load<Wide>(to + m * outputs + n * WIDE_LANES);
                const float* slope = slopes + column;
                for (int64_t y = 0; y < height; ++y) {
                    const float* seen = in + row * layer.pitch() + first + y * down;
                    for (int64_t x = 0; x < width; ++x, seen += right, slope += outputs) {
                        Wide line[VECTORS];
                        for (int n = 0; n < VECTORS; ++n) line[n] = load<Wide>(slope + n * WIDE_LANES);
                        for (int m = 0; m < ROWS; ++m) {
                            const Wide factor = broadcast<Wide>(seen[m]);
                            for (int n = 0; n < VECTORS; ++n) sums[m][n] += factor * line[n];
                        }
                    }
                }
                for (int m = 0; m < ROWS; ++m)
                    for (int n = 0; n < VECTORS; ++n) store(to + m * outputs + n * WIDE_LANES, sums[m][n]);
            });
        Wide sums[VECTORS];
        for (int n = 0; n < VECTORS; ++n) sums[n] = load<Wide>(of_bias + column + n * WIDE_LANES);
        for (int64_t pixel = 0; pixel < height * width; ++pixel)
            for (int n = 0; n < VECTORS; ++n)
                sums[n] += load<Wide>(slopes + pixel * outputs + column + n * WIDE_LANES);
        for (int n = 0; n < VECTORS; ++n) store(of_bias + column + n * WIDE_LANES, sums[n]);
    });
}

// Leaves the slopes where the layer's outputs are above 0.
inline void stop_at_zero(int64_t size, const float* outputs, float* slopes) {
    for (int64_t i = 0; i < size; ++i) slopes[i] = outputs[i] > 0.0f ? slopes[i] : 0.0f;
}

inline void as_numbers(int64_t count, const uint8_t* bytes, float* to) {
    for (int64_t i = 0; i < count; ++i) to[i] = bytes[i];
}

// Bytes of channels, which are anywhere, as numbers [places, channels].
template <class ChannelAt>
inline void channels_last(int64_t channels, int64_t places, const ChannelAt& channel, float* to) {
    constexpr int64_t LENGTH = 64;
    int64_t at = 0;
    if (channels == 4) {
        const uint8_t *const a = channel(0), *const b = channel(1), *const c = channel(2), *const d = channel(3);
        for (; at + LENGTH <= places; at += LENGTH) {
            uint32_t together[LENGTH];  // of a place
            for (int64_t i = at; i < at + LENGTH; ++i)
                together[i - at] = a[i] | uint32_t(b[i]) << 8 | uint32_t(c[i]) << 16 | uint32_t(d[i]) << 24;
            as_numbers(4 * LENGTH, reinterpret_cast<const uint8_t*>(together), to + 4 * at);
        }
    }
    for (int64_t c = 0; c < channels; ++c) {
        const uint8_t* const bytes = channel(c);
        for (int64_t i = at; i < places; ++i) to[i * channels + c] = bytes[i];
    }
}

// [rows, columns] to [columns, rows]
inline void transpose(int64_t rows, int64_t columns, const float* from, float* to) {
    for (int64_t column = 0; column < columns; ++column)
        for (int64_t row = 0; row < rows; ++row) to[column * rows + row] = from[row * columns + column];
}

// Images [rows] of bytes, `stride` apart, each [channels, height, width], or with the channels last. Or the channels of all
// rows are among those at `bytes`, each [height, width], and `places` [rows, channels] says which they are.
struct Images {
    const uint8_t* bytes;
    int64_t rows, stride, interleaved;
    const int64_t* places;

    void read(const Convolution& first, int64_t row, float* to) const {
        const int64_t size = first.in_height * first.in_width;
        const uint8_t* const from = bytes + row * stride;
        if (interleaved) return as_numbers(first.in_size(), from, to);
        channels_last(first.inputs, size, [&](int64_t channel) {
            return places ? bytes + places[row * first.inputs + channel] * size : from + channel * size;
        }, to);
    }
};

// Of each layer, as PyTorch has them: [outputs, inputs, side, side] and [outputs].
struct LayerWeights {
    float *weights, *bias;
};

// Bytes stand for numbers between 0 and 1: it is the first layer's weights that are scaled.
inline float scale_of(int64_t layer) { return layer ? 1.0f : 1.0f / 255.0f; }

// Layers that follow one another.
struct Convolutions {
    const Convolution* layers;
    int64_t count;
    const LayerWeights* parameters;

    const Convolution& last() const { return layers[count - 1]; }

    // How many numbers of a sample `forward` keeps: the outputs of all layers but the last.
    int64_t kept() const {
        int64_t sum = 0;
        for (int64_t i = 0; i + 1 < count; ++i) sum += layers[i].out_size();
        return sum;
    }

    // features [rows, F], with the channels first. `keep` [rows, kept] is filled for `backward`; null: there will be none.
    void forward(int64_t threads, const Images& images, float* keep, float* features) const {
        constexpr int64_t AT_ONCE = 8;
        std::vector<PackedWeights> packed(count);
        for (int64_t i = 0; i < count; ++i) packed[i].pack_forward(layers[i], parameters[i].weights, scale_of(i));
        Team::all(threads, (images.rows + AT_ONCE - 1) / AT_ONCE, [&](int64_t group) {
            Buffer numbers(layers[0].in_size()), unkept(keep ? 0 : kept()), out(last().out_size());
            for (int64_t row = group * AT_ONCE; row < std::min(images.rows, (group + 1) * AT_ONCE); ++row) {
                images.read(layers[0], row, numbers.data());
                float* between = keep ? keep + row * kept() : unkept.data();
                const float* in = numbers.data();
                for (int64_t i = 0; i < count; ++i) {
                    float* const to = i + 1 < count ? between : out.data();
                    convolve(layers[i], in, packed[i].forward.data(), parameters[i].bias, to);
                    in = to;
                    between += layers[i].out_size();
                }
                transpose(last().pixels(), last().outputs, in, features + row * last().out_size());
            }
        });
    }

    // Fills `of`, the slopes of the parameters. slopes [rows, F]: those of the features.
    void backward(int64_t threads, const Images& images, const float* kept_numbers, const float* features,
                  const float* slopes, const LayerWeights* of) const {
        std::vector<PackedWeights> packed(count);
        int64_t all = 0, largest = 0;
        for (int64_t i = 0; i < count; ++i) {
            if (i) packed[i].pack_backward(layers[i], parameters[i].weights);
            all += layers[i].weights() + layers[i].outputs;
            largest = std::max(largest, layers[i].out_size());
        }
        const int64_t groups = (images.rows + SAMPLES - 1) / SAMPLES, size = last().out_size();
        Buffer sums(groups * all);
        Team::all(threads, groups, [&](int64_t group) {
            Buffer numbers(layers[0].in_size()), slope(largest), below(largest);
            for (int64_t row = group * SAMPLES; row < std::min(images.rows, (group + 1) * SAMPLES); ++row) {
                images.read(layers[0], row, numbers.data());
                std::copy(slopes + row * size, slopes + (row + 1) * size, below.data());
                stop_at_zero(size, features + row * size, below.data());
                transpose(last().outputs, last().pixels(), below.data(), slope.data());
                const float* in = kept_numbers + (row + 1) * kept();
                float* to = &sums[group * all] + all;
                for (int64_t i = count - 1; i >= 0; --i) {
                    const Convolution& layer = layers[i];
                    in = i ? in - layer.in_size() : numbers.data();
                    to -= layer.weights() + layer.outputs;
                    add_slopes_of_weights(layer, in, slope.data(), to, to + layer.weights());
                    if (i == 0) break;
                    slopes_of_input(layer, slope.data(), packed[i].backward.data(), below.data());
                    stop_at_zero(layer.in_size(), in, below.data());
                    std::swap(slope, below);
                }
            }
        });
        for (int64_t group = 1; group < groups; ++group)
            for (int64_t p = 0; p < all; ++p) sums[p] += sums[group * all + p];
        const float* from = sums.data();
        for (int64_t i = 0; i < count; ++i) {
            unpack(layers[i], from, scale_of(i), of[i].weights);
            from += layers[i].weights();
            std::copy(from, from + layers[i].outputs, of[i].bias);
            from += layers[i].outputs;
        }
    }
};

}  // namespace ppolab
