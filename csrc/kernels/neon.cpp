// ARMv8.0, which every 64-bit ARM machine has: Jetson Nano and TX2, Raspberry Pi.

#if defined(__aarch64__)

#include "kernels/neon.inl"

#include "kernels/sets.hpp"

namespace vpr {
namespace {

[[gnu::always_inline]] inline int16x8_t add_products(int16x8_t sum, int8x16_t a, int8x16_t b) {
    return vmlal_high_s8(vmlal_s8(sum, vget_low_s8(a), vget_low_s8(b)), a, b);
}

struct Rows {
    template <std::size_t kRows, std::size_t kStep>
    [[gnu::always_inline]] static void products(const std::int8_t* query, const std::uint8_t* const* planes,
                                                std::size_t plane_bytes, std::int32_t* products,
                                                const std::uint8_t* const* ahead) {
        const std::uint8_t* rows[kRows];
        int32x4_t sums[kRows];
        for (std::size_t r = 0; r < kRows; ++r) {
            rows[r] = planes[r];
            sums[r] = vdupq_n_s32(0);
        }
        for (std::size_t line = 0; line < plane_bytes; line += 64) {
            // A product is at most 1905. A lane adds 16 of them for each line, which fits 16 bits.
            int16x8_t words[kRows];
            for (std::size_t r = 0; r < kRows; ++r) {
                if constexpr (kStep > 0) __builtin_prefetch(ahead[r] + kStep * line);
                words[r] = vdupq_n_s16(0);
            }
#pragma GCC unroll 4
            for (std::size_t at = 0; at < 64; at += 16) {
                const int8x16_t low_query = vld1q_s8(query + 2 * line + at);
                const int8x16_t high_query = vld1q_s8(query + 2 * line + 64 + at);
#pragma GCC unroll 4
                for (std::size_t r = 0; r < kRows; ++r) {
                    const uint8x16_t nibbles = vld1q_u8(rows[r] + line + at);
                    words[r] = add_products(words[r], low_nibbles(nibbles), low_query);
                    words[r] = add_products(words[r], high_nibbles(nibbles), high_query);
                }
            }
            for (std::size_t r = 0; r < kRows; ++r) sums[r] = vpadalq_s16(sums[r], words[r]);
        }
        store_products(sums, products);
    }
};

std::int32_t code_product(const std::uint8_t* high_a, const std::uint8_t* low_a, const std::uint8_t* high_b,
                          const std::uint8_t* low_b, std::size_t plane_bytes) {
    int32x4_t first = vdupq_n_s32(0);
    int32x4_t second = vdupq_n_s32(0);
    for (std::size_t line = 0; line < plane_bytes; line += 64) {
#pragma GCC unroll 4
        for (std::size_t at = line; at < line + 64; at += 16) {
            const Codes a = load_codes(high_a + at, low_a + at);
            const Codes b = load_codes(high_b + at, low_b + at);
            // A product may be 128 * 128: 16 bits hold one, but not the sum of two.
            first = vpadalq_s16(first, vmull_s8(vget_low_s8(a.first), vget_low_s8(b.first)));
            second = vpadalq_s16(second, vmull_s8(vget_low_s8(a.second), vget_low_s8(b.second)));
            first = vpadalq_s16(first, vmull_high_s8(a.first, b.first));
            second = vpadalq_s16(second, vmull_high_s8(a.second, b.second));
        }
    }
    return vaddvq_s32(vaddq_s32(first, second));
}

}  // namespace

const Kernels kNeonKernels{"neon",
                           squared_length,
                           dot_f32,
                           dot_f16,
                           hadamard<Floats>,
                           round_to_codes,
                           plane_products<Rows>,
                           plane_scan<Rows>,
                           code_product,
                           sketch_sums,
                           count_above,
                           above};

}  // namespace vpr

#endif
