// Numbers side by side, as many as the processor works on at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace ppolab {

constexpr int LANES = 8;
#ifdef __AVX512F__
constexpr int WIDE_LANES = 16;
#else
constexpr int WIDE_LANES = 8;
#endif
constexpr int STRIP = 16;  // a whole number of both; as many rows are handled at least

typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));
typedef float Wide __attribute__((vector_size(WIDE_LANES * sizeof(float))));

template <class V>
constexpr int lanes_of() {
    return sizeof(V) / sizeof(float);
}

template <class V = Vec>
inline V load(const float* from) {
    V value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

template <class V>
inline void store(float* to, V value) {
    __builtin_memcpy(to, &value, sizeof value);
}

template <class V = Vec>
inline V broadcast(float value) {
    return value - V{};  // minus, since -0 + 0 is 0
}

inline int64_t padded(int64_t size) { return (size + LANES - 1) / LANES * LANES; }
inline int64_t in_strips(int64_t rows) { return (rows + STRIP - 1) / STRIP * STRIP; }

// Memory that begins with a line of the cache: a vector that lies across two is loaded in twice the time.
template <class T>
struct LineAllocator {
    typedef T value_type;
    static constexpr std::align_val_t LINE{64};

    LineAllocator() = default;
    template <class Other>
    LineAllocator(const LineAllocator<Other>&) {}

    T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), LINE)); }
    void deallocate(T* memory, size_t) { ::operator delete(memory, LINE); }
    bool operator==(const LineAllocator&) const { return true; }
    bool operator!=(const LineAllocator&) const { return false; }
};

typedef std::vector<float, LineAllocator<float>> Buffer;

inline void grow(Buffer& buffer, int64_t floats) {
    if (static_cast<int64_t>(buffer.size()) < floats) buffer.resize(floats);
}

}  // namespace ppolab
