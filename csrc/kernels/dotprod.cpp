// ARMv8.2 with SDOT: Jetson Orin and other 64-bit ARM machines since 2018.

#if defined(__aarch64__)

#include "kernels/neon.inl"
#include "kernels/sets.hpp"

namespace vpr {
namespace {

struct Rows {
    template <std::size_t kRows, std::size_t kStep>
    [[gnu::always_inline]] static void products(const std::int8_t* query, const std::uint8_t* const* planes,
                                                std::size_t plane_bytes, std::int32_t* products,
                                                const std::uint8_t* const* ahead) {
        const std::uint8_t* rows[kRows];
        int32x4_t low[kRows];
        int32x4_t high[kRows];
        for (std::size_t r = 0; r < kRows; ++r) {
            rows[r] = planes[r];
            low[r] = high[r] = vdupq_n_s32(0);
        }
        for (std::size_t line = 0; line < plane_bytes; line += 64) {
            if constexpr (kStep > 0) {
                for (std::size_t r = 0; r < kRows; ++r) __builtin_prefetch(ahead[r] + kStep * line);
            }
#pragma GCC unroll 2
            for (std::size_t at = 0; at < 64; at += 16) {
                const int8x16_t low_query = vld1q_s8(query + 2 * line + at);
                const int8x16_t high_query = vld1q_s8(query + 2 * line + 64 + at);
#pragma GCC unroll 4
                for (std::size_t r = 0; r < kRows; ++r) {
                    const uint8x16_t nibbles = vld1q_u8(rows[r] + line + at);
                    low[r] = vdotq_s32(low[r], low_nibbles(nibbles), low_query);
                    high[r] = vdotq_s32(high[r], high_nibbles(nibbles), high_query);
                }
            }
        }
        for (std::size_t r = 0; r < kRows; ++r) low[r] = vaddq_s32(low[r], high[r]);
        store_products(low, products);
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
            first = vdotq_s32(first, a.first, b.first);
            second = vdotq_s32(second, a.second, b.second);
        }
    }
    return vaddvq_s32(vaddq_s32(first, second));
}

}  // namespace

const Kernels kDotprodKernels{"dotprod",
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
