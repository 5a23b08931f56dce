// Code that AVX2 and AVX-512 share. See kernels/simd.inl for the anonymous namespace.

#pragma once

#include <immintrin.h>

#include "kernels/simd.inl"

namespace vpr {
namespace {

/// Lane l adds lane l + 4, then l + 2, then l + 1.
inline float fold(__m256 lanes) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// 512-bit vectors make these no faster: the additions are a chain in the order that kernels.hpp states.

double squared_length(const float* row, std::size_t dim) {
    __m256d sums[4];
    for (__m256d& sum : sums) sum = _mm256_setzero_pd();
    std::size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
#pragma GCC unroll 4
        for (std::size_t k = 0; k < 4; ++k) {
            const __m256d values = _mm256_cvtps_pd(_mm_loadu_ps(row + i + 4 * k));
            sums[k] = _mm256_add_pd(sums[k], _mm256_mul_pd(values, values));
        }
    }
    alignas(32) double lanes[16];
    for (std::size_t k = 0; k < 4; ++k) _mm256_store_pd(lanes + 4 * k, sums[k]);
    return sum_of_squares(lanes, row + i, dim - i);
}

[[gnu::always_inline]] inline __m256 load_values(const float* values) { return _mm256_loadu_ps(values); }

[[gnu::always_inline]] inline __m256 load_values(const std::uint16_t* halves) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}

template <class Value>
[[gnu::always_inline]] inline float dot(const float* query, const Value* row, std::size_t dim) {
    __m256 lanes[4];
    for (__m256& eight : lanes) eight = _mm256_setzero_ps();
    for (std::size_t i = 0; i < dim; i += 32) {
#pragma GCC unroll 4
        for (std::size_t k = 0; k < 4; ++k) {
            const __m256 products = _mm256_mul_ps(_mm256_loadu_ps(query + i + 8 * k), load_values(row + i + 8 * k));
            lanes[k] = _mm256_add_ps(lanes[k], products);
        }
    }
    return fold(_mm256_add_ps(_mm256_add_ps(lanes[0], lanes[2]), _mm256_add_ps(lanes[1], lanes[3])));
}

float dot_f32(const float* query, const float* row, std::size_t dim) { return dot(query, row, dim); }

float dot_f16(const float* query, const std::uint16_t* row, std::size_t dim) { return dot(query, row, dim); }

inline std::int32_t sum_of_lanes(__m256i lanes) {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_srli_epi64(two, 32)));
}

/// Stores the sums of up to four rows. Each half of `halves` has one 32-bit lane for each row.
template <std::size_t kRows>
[[gnu::always_inline]] inline void store_products(__m256i halves, std::int32_t* products) {
    const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    if constexpr (kRows == 4) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(products), sums);
    } else {
        alignas(16) std::int32_t four[4];
        _mm_store_si128(reinterpret_cast<__m128i*>(four), sums);
        std::memcpy(products, four, kRows * sizeof(four[0]));
    }
}

/// Appends `first` plus the position of each bit that is set.
///
/// @return  the new number of positions.
inline std::size_t append_positions(std::uint32_t bits, std::uint32_t first, std::uint32_t* positions,
                                    std::size_t found) {
    for (; bits != 0; bits &= bits - 1) positions[found++] = first + static_cast<std::uint32_t>(__builtin_ctz(bits));
    return found;
}

}  // namespace
}  // namespace vpr
