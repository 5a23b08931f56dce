// Code that both NEON sets share. The including file adds the products of planes and of codes. See kernels/simd.inl for
// the anonymous namespace.

#pragma once

#include <arm_neon.h>

#include "kernels/simd.inl"

namespace vpr {
namespace {

double squared_length(const float* row, std::size_t dim) {
    float64x2_t sums[8];
    for (float64x2_t& sum : sums) sum = vdupq_n_f64(0.0);
    std::size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
#pragma GCC unroll 4
        for (std::size_t k = 0; k < 4; ++k) {
            const float32x4_t four = vld1q_f32(row + i + 4 * k);
            const float64x2_t low = vcvt_f64_f32(vget_low_f32(four));
            const float64x2_t high = vcvt_high_f64_f32(four);
            sums[2 * k] = vaddq_f64(sums[2 * k], vmulq_f64(low, low));
            sums[2 * k + 1] = vaddq_f64(sums[2 * k + 1], vmulq_f64(high, high));
        }
    }
    alignas(16) double lanes[16];
    for (std::size_t k = 0; k < 8; ++k) vst1q_f64(lanes + 2 * k, sums[k]);
    return sum_of_squares(lanes, row + i, dim - i);
}

[[gnu::always_inline]] inline void load_values(const float* values, float32x4_t& low, float32x4_t& high) {
    low = vld1q_f32(values);
    high = vld1q_f32(values + 4);
}

[[gnu::always_inline]] inline void load_values(const std::uint16_t* values, float32x4_t& low, float32x4_t& high) {
    const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(values));
    low = vcvt_f32_f16(vget_low_f16(halves));
    high = vcvt_high_f32_f16(halves);
}

template <class Value>
[[gnu::always_inline]] inline float dot(const float* query, const Value* row, std::size_t dim) {
    // Eight variables, because GCC 12 would keep an array in memory, and load and store it in every pass.
    float32x4_t a = vdupq_n_f32(0.0F);
    float32x4_t b = a;
    float32x4_t c = a;
    float32x4_t d = a;
    float32x4_t e = a;
    float32x4_t f = a;
    float32x4_t g = a;
    float32x4_t h = a;
    const auto add_eight = [&](std::size_t i, float32x4_t& first, float32x4_t& second) {
        float32x4_t low;
        float32x4_t high;
        load_values(row + i, low, high);
        first = vaddq_f32(first, vmulq_f32(vld1q_f32(query + i), low));
        second = vaddq_f32(second, vmulq_f32(vld1q_f32(query + i + 4), high));
    };
    for (std::size_t i = 0; i < dim; i += 32) {
        add_eight(i, a, b);
        add_eight(i + 8, c, d);
        add_eight(i + 16, e, f);
        add_eight(i + 24, g, h);
    }
    a = vaddq_f32(a, e);
    b = vaddq_f32(b, f);
    c = vaddq_f32(c, g);
    d = vaddq_f32(d, h);
    const float32x4_t four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

float dot_f32(const float* query, const float* row, std::size_t dim) { return dot(query, row, dim); }

float dot_f16(const float* query, const std::uint16_t* row, std::size_t dim) { return dot(query, row, dim); }

struct Floats {
    using Vector = float32x4_t;
    static constexpr std::size_t kLanes = 4;
    static constexpr std::size_t kVectors = 16;

    static Vector load(const float* at) { return vld1q_f32(at); }
    static void store(float* at, Vector a) { vst1q_f32(at, a); }
    static Vector add(Vector a, Vector b) { return vaddq_f32(a, b); }
    static Vector sub(Vector a, Vector b) { return vsubq_f32(a, b); }

    /// Strides 1 and 2 separate even and odd values. The third time restores the order.
    static void within(Vector& a, Vector& b) {
        for (int i = 0; i < 2; ++i) {
            const Vector even = vuzp1q_f32(a, b);
            const Vector odd = vuzp2q_f32(a, b);
            a = add(even, odd);
            b = sub(even, odd);
        }
        const Vector c = vuzp1q_f32(a, b);
        const Vector d = vuzp2q_f32(a, b);
        a = c;
        b = d;
    }
};

[[gnu::always_inline]] inline int8x16_t low_nibbles(uint8x16_t bytes) {
    return vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
}

[[gnu::always_inline]] inline int8x16_t high_nibbles(uint8x16_t bytes) {
    return vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
}

/// Adds the lanes of each row's sum and stores them, for up to four rows.
template <std::size_t kRows>
[[gnu::always_inline]] inline void store_products(const int32x4_t (&sums)[kRows], std::int32_t* products) {
    if constexpr (kRows == 4) {
        vst1q_s32(products, vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3])));
    } else {
        for (std::size_t r = 0; r < kRows; ++r) products[r] = vaddvq_s32(sums[r]);
    }
}

/// The codes 16 h + l - 128 of two planes: `first` of the low halves of the bytes, `second` of the high halves.
struct Codes {
    int8x16_t first;
    int8x16_t second;
};

[[gnu::always_inline]] inline Codes load_codes(const std::uint8_t* high, const std::uint8_t* low) {
    const uint8x16_t h = veorq_u8(vld1q_u8(high), vdupq_n_u8(0x88));  // 16 h - 128 is 16 h with its sign bit flipped
    const uint8x16_t l = vld1q_u8(low);
    return {vreinterpretq_s8_u8(vsliq_n_u8(l, h, 4)), vreinterpretq_s8_u8(vsriq_n_u8(h, l, 4))};
}

void sketch_sums(const std::uint8_t* tables, std::size_t groups, const std::uint8_t* blocks, std::size_t count,
                 std::uint16_t* sums) {
    const uint8x16_t mask = vdupq_n_u8(15);
    const std::size_t block_bytes = 16 * groups;
    for (std::size_t block = 0; block < count; ++block, blocks += block_bytes, sums += 32) {
        uint16x8_t rows[4];
        for (uint16x8_t& eight : rows) eight = vdupq_n_u16(0);
        for (std::size_t at = 0; at < block_bytes; at += 64) {
            __builtin_prefetch(blocks + at + kAhead);
            uint8x16_t low = vdupq_n_u8(0);
            uint8x16_t high = vdupq_n_u8(0);
#pragma GCC unroll 4
            for (std::size_t group = at; group < at + 64; group += 16) {
                const uint8x16_t nibbles = vld1q_u8(blocks + group);
                const uint8x16_t table = vld1q_u8(tables + group);
                low = vaddq_u8(low, vqtbl1q_u8(table, vandq_u8(nibbles, mask)));
                high = vaddq_u8(high, vqtbl1q_u8(table, vshrq_n_u8(nibbles, 4)));
            }
            rows[0] = vaddw_u8(rows[0], vget_low_u8(low));
            rows[1] = vaddw_high_u8(rows[1], low);
            rows[2] = vaddw_u8(rows[2], vget_low_u8(high));
            rows[3] = vaddw_high_u8(rows[3], high);
        }
        for (std::size_t k = 0; k < 4; ++k) vst1q_u16(sums + 8 * k, rows[k]);
    }
}

std::size_t above(const std::uint16_t* sums, std::size_t count, std::uint16_t threshold, std::uint32_t* positions) {
    const uint16x8_t limit = vdupq_n_u16(threshold);
    std::size_t found = 0;
    for (std::size_t i = 0; i < count; i += 16) {
        const uint8x16_t bytes = vuzp1q_u8(vreinterpretq_u8_u16(vcgtq_u16(vld1q_u16(sums + i), limit)),
                                           vreinterpretq_u8_u16(vcgtq_u16(vld1q_u16(sums + i + 8), limit)));
        // Narrow each byte to four bits, and keep one of them.
        const uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(bytes), 4);
        std::uint64_t bits = vget_lane_u64(vreinterpret_u64_u8(nibbles), 0) & 0x1111111111111111U;
        for (; bits != 0; bits &= bits - 1) {
            positions[found++] = static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(__builtin_ctzll(bits)) / 4;
        }
    }
    return found;
}

}  // namespace
}  // namespace vpr
