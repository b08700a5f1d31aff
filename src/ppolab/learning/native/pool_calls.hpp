// Calls of EnvPool's C++ code without Python: handlers of XLA's foreign function interface, which is a C interface.
//
// The structures are those of xla/ffi/api/c_api.h of openxla/xla, version 0, as far as they are needed. Each begins with its
// size, which a handler compares with its own; what it finds to be wrong is the text of an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ppolab {
namespace xla {

constexpr int METADATA = 1, EXECUTE = 3;              // a kind of extension; a stage
constexpr int BUFFER = 1, SCALAR = 3;                 // kinds of arguments and results; of attributes
constexpr int SIGNED_64 = 5, UNSIGNED_8 = 6;          // types of numbers
constexpr int VERSION = 0;

struct Extension {
    size_t size;
    int kind;
    Extension* next;
};

struct Version {
    size_t size;
    Extension* extensions;
    int major, minor;
};

struct Metadata {
    size_t size;
    Version version;
    uint32_t traits;
    int64_t state_type;
    int64_t room[4];  // for fields of later versions
};

struct MetadataExtension {
    Extension base;
    Metadata* metadata;
};

struct Buffer {
    size_t size;
    Extension* extensions;
    int type;
    void* data;
    int64_t rank;
    const int64_t* shape;
};

struct Scalar {
    int type;
    void* value;
};

struct Text {
    const char* first;
    size_t length;
};

struct Values {  // arguments, or results
    size_t size;
    Extension* extensions;
    int64_t count;
    int* kinds;
    void** values;
};

struct Attributes {
    size_t size;
    Extension* extensions;
    int64_t count;
    int* kinds;
    Text** names;
    void** values;
};

struct ErrorArguments {
    size_t size;
    Extension* extensions;
    const char* message;
    int code;
};

struct Api {
    size_t size;
    Extension* extensions;
    Version version;
    const void* internal;
    void* (*create_error)(ErrorArguments*);
    void* others[17];  // which no handler of EnvPool calls
};

struct Frame {
    size_t size;
    Extension* extensions;
    const Api* api;
    void* context;
    int stage;
    Values arguments, results;
    Attributes attributes;
    void* future;  // does not count as part of the size
};

constexpr size_t FRAME_SIZE = offsetof(Frame, future);

using Handler = void* (*)(Frame*);

inline std::string& last_error() {
    thread_local std::string text;
    return text;
}

inline void* create_error(ErrorArguments* arguments) {
    last_error() = arguments->message;
    return &last_error();
}

inline const Api* api() {
    static const Api functions{sizeof(Api), nullptr, {sizeof(Version), nullptr, VERSION, 0}, nullptr, create_error, {}};
    return &functions;
}

inline Frame empty_frame() {
    Frame frame{};
    frame.size = FRAME_SIZE;
    frame.api = api();
    frame.stage = EXECUTE;
    frame.arguments.size = frame.results.size = sizeof(Values);
    frame.attributes.size = sizeof(Attributes);
    return frame;
}

}  // namespace xla

// Returns why `handler` cannot be called as these structures say; null where it can.
inline const char* problem_of_handler(void* handler) {
    xla::Metadata metadata{};
    metadata.size = sizeof(xla::Metadata);
    metadata.version = {sizeof(xla::Version), nullptr, -1, -1};
    xla::MetadataExtension extension{{sizeof(xla::MetadataExtension), xla::METADATA, nullptr}, &metadata};
    xla::Frame frame = xla::empty_frame();
    frame.extensions = &extension.base;
    if (reinterpret_cast<xla::Handler>(handler)(&frame)) return xla::last_error().c_str();
    if (metadata.version.major == xla::VERSION) return nullptr;
    xla::last_error() = "its interface has version " + std::to_string(metadata.version.major);
    return xla::last_error().c_str();
}

// One of a pool's functions, `send` or `recv`, with the memory that it reads and fills.
class PoolCall {
  public:
    // `handle` is the address of the pool, and the first of all arguments and of all results.
    PoolCall(void* handler, int64_t handle, const std::vector<void*>& arguments, const std::vector<void*>& results)
        : handler_(reinterpret_cast<xla::Handler>(handler)), handle_(handle), arguments_(buffers_of(arguments)),
          results_(buffers_of(results)), argument_places_(places_of(arguments_)), result_places_(places_of(results_)),
          kinds_(std::max(arguments_.size(), results_.size()), xla::BUFFER), frame_(xla::empty_frame()) {
        const int64_t argument_count = arguments_.size(), result_count = results_.size();
        frame_.arguments = {sizeof(xla::Values), nullptr, argument_count, kinds_.data(), argument_places_.data()};
        frame_.results = {sizeof(xla::Values), nullptr, result_count, kinds_.data(), result_places_.data()};
        frame_.attributes = {sizeof(xla::Attributes), nullptr, 1, &scalar_, &name_, &attribute_};
    }
    PoolCall(const PoolCall&) = delete;  // its parts point to each other
    PoolCall& operator=(const PoolCall&) = delete;

    void read_from(size_t argument, void* data) { arguments_[1 + argument].data = data; }

    // Returns what went wrong, or null.
    const char* operator()() { return handler_(&frame_) ? xla::last_error().c_str() : nullptr; }

  private:
    std::vector<xla::Buffer> buffers_of(const std::vector<void*>& data) {
        std::vector<xla::Buffer> buffers{buffer_of(&handle_)};
        for (void* each : data) buffers.push_back(buffer_of(each));
        return buffers;
    }

    // EnvPool knows the types and shapes, and asks for the place only.
    static xla::Buffer buffer_of(void* data) {
        return {sizeof(xla::Buffer), nullptr, xla::UNSIGNED_8, data, 0, nullptr};
    }

    static std::vector<void*> places_of(std::vector<xla::Buffer>& buffers) {
        std::vector<void*> places;
        for (xla::Buffer& buffer : buffers) places.push_back(&buffer);
        return places;
    }

    xla::Handler handler_;
    int64_t handle_;
    std::vector<xla::Buffer> arguments_, results_;
    std::vector<void*> argument_places_, result_places_;
    std::vector<int> kinds_;
    int scalar_ = xla::SCALAR;
    xla::Text text_{"handle", 6};
    xla::Text* name_ = &text_;
    xla::Scalar value_{xla::SIGNED_64, &handle_};
    void* attribute_ = &value_;
    xla::Frame frame_;
};

}  // namespace ppolab
