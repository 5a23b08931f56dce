// Loops that compilers vectorise well for every set, scalar included. See kernels/simd.inl for why they are in an
// anonymous namespace and use nothing from std::.

#pragma once

#include <cstddef>
#include <cstdint>

namespace vpr {
namespace {

inline float round_to_codes(float* __restrict values, float steps, std::size_t count, std::int8_t* __restrict codes) {
    constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: a float32 of this size has no fraction
    constexpr float kLargest = 127.0F;
    constexpr std::size_t kLanes = 16;
    float lanes[kLanes] = {};
    for (std::size_t i = 0; i < count; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const float value = values[i + lane] * steps;
            const float most = value < kLargest ? value : kLargest;
            const float whole = ((most > -kLargest ? most : -kLargest) + kRound) - kRound;
            values[i + lane] = value;
            codes[i + lane] = static_cast<std::int8_t>(static_cast<std::int32_t>(whole));
            lanes[lane] += (value - whole) * (value - whole);
        }
    }
    float sum = 0.0F;
    for (const float lane : lanes) sum += lane;
    return sum;
}

inline std::size_t count_above(const std::uint16_t* sums, std::size_t count, std::uint16_t threshold) {
    std::size_t found = 0;
    // Count in 16-bit lanes, and empty them before they can overflow.
    constexpr std::size_t kLanes = 32;
    constexpr std::size_t kAtOnce = 65535 * kLanes;
    for (std::size_t start = 0; start < count; start += kAtOnce) {
        const std::size_t end = count - start < kAtOnce ? count : start + kAtOnce;
        std::uint16_t lanes[kLanes] = {};
        for (std::size_t i = start; i < end; i += kLanes) {
            for (std::size_t lane = 0; lane < kLanes; ++lane) {
                lanes[lane] = static_cast<std::uint16_t>(lanes[lane] + (sums[i + lane] > threshold ? 1 : 0));
            }
        }
        for (const std::uint16_t lane : lanes) found += lane;
    }
    return found;
}

}  // namespace
}  // namespace vpr
