#include "dot.hpp"

namespace vpr {

// Portable on purpose: sixteen independent lanes are four SSE or NEON registers to any compiler. Kernels chosen
// at run time replace this body; the order of the sum is what they are tested against.
float dot(const float* a, const float* b, std::size_t dim) noexcept {
    constexpr std::size_t kLanes = 16;
    float lanes[kLanes] = {};
    std::size_t i = 0;
    for (; i + kLanes <= dim; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
    }
    for (std::size_t width = kLanes / 2; width > 0; width /= 2) {
        for (std::size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    float tail = 0.0F;
    for (; i < dim; ++i) tail += a[i] * b[i];
    return lanes[0] + tail;
}

}  // namespace vpr
