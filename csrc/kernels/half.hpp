#pragma once

#include <cstdint>
#include <cstring>

namespace vpr {

/// An IEEE 754 binary16 value as float32. The conversion is exact.
inline float half_to_float(std::uint16_t half) noexcept {
    const std::uint32_t sign = std::uint32_t{half & 0x8000U} << 16;
    const std::uint32_t magnitude = half & 0x7FFFU;
    std::uint32_t bits;
    if (magnitude >= 0x7C00U) {  // infinity and NaN
        bits = sign | 0x7F800000U | (magnitude & 0x3FFU) << 13;
    } else if (magnitude >= 0x0400U) {
        bits = sign | ((magnitude << 13) + (112U << 23));  // exponent bias 15 to 127
    } else {
        const float value = static_cast<float>(magnitude) * 5.9604644775390625e-08F;  // subnormal: units of 2^-24
        std::memcpy(&bits, &value, sizeof(bits));
        bits |= sign;
    }
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

/// The IEEE 754 binary16 value that is nearest to a float32 of magnitude below 65504, ties to even.
inline std::uint16_t float_to_half(float value) noexcept {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    const std::uint32_t sign = bits >> 16 & 0x8000U;
    bits &= 0x7FFFFFFFU;
    std::uint32_t half;
    if (bits < 113U << 23) {
        // Subnormal: add 0.5, whose last bit is worth 2^-24, so that the addition rounds.
        float magnitude;
        std::memcpy(&magnitude, &bits, sizeof(magnitude));
        magnitude += 0.5F;
        std::memcpy(&half, &magnitude, sizeof(half));
        half -= 126U << 23;
    } else {
        half = (bits - (112U << 23) + 0xFFFU + (bits >> 13 & 1U)) >> 13;
    }
    return static_cast<std::uint16_t>(sign | half);
}

}  // namespace vpr
