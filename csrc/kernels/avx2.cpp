// AVX2 and F16C: x86 machines since 2013 (Haswell, Zen).

#if defined(__x86_64__)

#include "kernels/sets.hpp"
#include "kernels/x86.inl"

namespace vpr {
namespace {

[[gnu::always_inline]] inline __m256i load(const void* at) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(at));
}

struct Floats {
    using Vector = __m256;
    static constexpr std::size_t kLanes = 8;
    static constexpr std::size_t kVectors = 8;

    static Vector load(const float* at) { return _mm256_loadu_ps(at); }
    static void store(float* at, Vector a) { _mm256_storeu_ps(at, a); }
    static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
    static Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }

    /// Strides 1 and 2 separate the even and odd values of each four floats. The third shuffle restores the order.
    static void within(Vector& a, Vector& b) {
        for (int i = 0; i < 2; ++i) {
            const Vector even = _mm256_shuffle_ps(a, b, 0x88);
            const Vector odd = _mm256_shuffle_ps(a, b, 0xDD);
            a = add(even, odd);
            b = sub(even, odd);
        }
        const Vector c = _mm256_shuffle_ps(a, b, 0x88);
        const Vector d = _mm256_shuffle_ps(a, b, 0xDD);
        const Vector low = _mm256_permute2f128_ps(c, d, 0x20);
        const Vector high = _mm256_permute2f128_ps(c, d, 0x31);
        const Vector sum = add(low, high);
        const Vector difference = sub(low, high);
        a = _mm256_permute2f128_ps(sum, difference, 0x20);
        b = _mm256_permute2f128_ps(sum, difference, 0x31);
    }
};

[[gnu::always_inline]] inline __m256i low_nibbles(__m256i bytes) {
    return _mm256_and_si256(bytes, _mm256_set1_epi8(15));
}

[[gnu::always_inline]] inline __m256i high_nibbles(__m256i bytes) { return low_nibbles(_mm256_srli_epi16(bytes, 4)); }

struct Rows {
    template <std::size_t kRows, std::size_t kStep>
    [[gnu::always_inline]] static void products(const std::int8_t* query, const std::uint8_t* const* planes,
                                                std::size_t plane_bytes, std::int32_t* products,
                                                const std::uint8_t* const* ahead) {
        const __m256i ones = _mm256_set1_epi16(1);
        const std::uint8_t* rows[kRows];
        __m256i sums[4];
        for (std::size_t r = 0; r < 4; ++r) {
            sums[r] = _mm256_setzero_si256();
            if (r < kRows) rows[r] = planes[r];
        }
        for (std::size_t line = 0; line < plane_bytes; line += 64) {
            const std::int8_t* values = query + 2 * line;
#pragma GCC unroll 4
            for (std::size_t r = 0; r < kRows; ++r) {
                if constexpr (kStep > 0) __builtin_prefetch(ahead[r] + kStep * line);
                const __m256i first = load(rows[r] + line);
                const __m256i second = load(rows[r] + line + 32);
                // A pair of products is at most 3810, so four of them fit 16 bits.
                const __m256i low = _mm256_add_epi16(_mm256_maddubs_epi16(low_nibbles(first), load(values)),
                                                     _mm256_maddubs_epi16(low_nibbles(second), load(values + 32)));
                const __m256i high = _mm256_add_epi16(_mm256_maddubs_epi16(high_nibbles(first), load(values + 64)),
                                                      _mm256_maddubs_epi16(high_nibbles(second), load(values + 96)));
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(_mm256_add_epi16(low, high), ones));
            }
        }
        const __m256i ab = _mm256_hadd_epi32(sums[0], sums[1]);
        const __m256i cd = _mm256_hadd_epi32(sums[2], sums[3]);
        store_products<kRows>(_mm256_hadd_epi32(ab, cd), products);
    }
};

std::int32_t code_product(const std::uint8_t* high_a, const std::uint8_t* low_a, const std::uint8_t* high_b,
                          const std::uint8_t* low_b, std::size_t plane_bytes) {
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i high_mask = _mm256_set1_epi8(-16);
    const __m256i eight = _mm256_set1_epi8(8);
    // Multiplies b, as a signed byte, by 16 (h - 8) + l of a. A pair of products with l, 0 to 15, is between -3840 and
    // 3810, so the four pairs of a line fit 16 bits. Products with h - 8, computed as a difference, fit as well.
    __m256i high_sum = _mm256_setzero_si256();
    __m256i low_sum = _mm256_setzero_si256();
    for (std::size_t line = 0; line < plane_bytes; line += 64) {
        __m256i high_words = _mm256_setzero_si256();
        __m256i low_words = _mm256_setzero_si256();
#pragma GCC unroll 2
        for (std::size_t at = line; at < line + 64; at += 32) {
            const __m256i ha = load(high_a + at);
            const __m256i la = load(low_a + at);
            const __m256i hb = _mm256_xor_si256(load(high_b + at), _mm256_set1_epi8(-0x78));  // sign bits of 16 h - 128
            const __m256i lb = load(low_b + at);
            const __m256i first_b =
                _mm256_or_si256(_mm256_and_si256(_mm256_slli_epi16(hb, 4), high_mask), low_nibbles(lb));
            const __m256i second_b = _mm256_or_si256(_mm256_and_si256(hb, high_mask), high_nibbles(lb));
            low_words = _mm256_add_epi16(low_words, _mm256_maddubs_epi16(low_nibbles(la), first_b));
            low_words = _mm256_add_epi16(low_words, _mm256_maddubs_epi16(high_nibbles(la), second_b));
            high_words = _mm256_add_epi16(high_words, _mm256_maddubs_epi16(low_nibbles(ha), first_b));
            high_words = _mm256_add_epi16(high_words, _mm256_maddubs_epi16(high_nibbles(ha), second_b));
            high_words = _mm256_sub_epi16(high_words, _mm256_maddubs_epi16(eight, first_b));
            high_words = _mm256_sub_epi16(high_words, _mm256_maddubs_epi16(eight, second_b));
        }
        high_sum = _mm256_add_epi32(high_sum, _mm256_madd_epi16(high_words, ones));
        low_sum = _mm256_add_epi32(low_sum, _mm256_madd_epi16(low_words, ones));
    }
    return sum_of_lanes(_mm256_add_epi32(_mm256_slli_epi32(high_sum, 4), low_sum));
}

/// The sums of 16 rows: adds the two halves of the even rows' sums and of the odd rows' sums, and interleaves them.
[[gnu::always_inline]] inline __m256i rows_in_order(__m256i words, __m256i odd) {
    const __m256i even = _mm256_sub_epi16(words, _mm256_slli_epi16(odd, 8));
    const __m256i first = _mm256_unpacklo_epi16(even, odd);
    const __m256i second = _mm256_unpackhi_epi16(even, odd);
    return _mm256_add_epi16(_mm256_permute2x128_si256(first, second, 0x20),
                            _mm256_permute2x128_si256(first, second, 0x31));
}

void sketch_sums(const std::uint8_t* tables, std::size_t groups, const std::uint8_t* blocks, std::size_t count,
                 std::uint16_t* sums) {
    const std::size_t block_bytes = 16 * groups;
    for (std::size_t block = 0; block < count; ++block, blocks += block_bytes, sums += 32) {
        // A 16-bit word holds two rows, the odd one in its upper byte. `low` and `high` sum words, `_odd` the upper
        // bytes.
        __m256i low = _mm256_setzero_si256();
        __m256i low_odd = _mm256_setzero_si256();
        __m256i high = _mm256_setzero_si256();
        __m256i high_odd = _mm256_setzero_si256();
        for (std::size_t at = 0; at < block_bytes; at += 128) {
            __builtin_prefetch(blocks + at + kAhead);
            __builtin_prefetch(blocks + at + kAhead + 64);
            __m256i low_bytes = _mm256_setzero_si256();
            __m256i high_bytes = _mm256_setzero_si256();
#pragma GCC unroll 4
            for (std::size_t part = at; part < at + 128; part += 32) {
                const __m256i nibbles = load(blocks + part);
                const __m256i table = load(tables + part);
                low_bytes = _mm256_add_epi8(low_bytes, _mm256_shuffle_epi8(table, low_nibbles(nibbles)));
                high_bytes = _mm256_add_epi8(high_bytes, _mm256_shuffle_epi8(table, high_nibbles(nibbles)));
            }
            low = _mm256_add_epi16(low, low_bytes);
            high = _mm256_add_epi16(high, high_bytes);
            low_odd = _mm256_add_epi16(low_odd, _mm256_srli_epi16(low_bytes, 8));
            high_odd = _mm256_add_epi16(high_odd, _mm256_srli_epi16(high_bytes, 8));
        }
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), rows_in_order(low, low_odd));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + 16), rows_in_order(high, high_odd));
    }
}

std::size_t above(const std::uint16_t* sums, std::size_t count, std::uint16_t threshold, std::uint32_t* positions) {
    const __m256i limit = _mm256_set1_epi16(static_cast<short>(threshold));
    const __m256i zero = _mm256_setzero_si256();
    std::size_t found = 0;
    for (std::size_t i = 0; i < count; i += 32) {
        // AVX2 compares only signed words. A sum is above the limit if subtracting the limit, saturated at 0, leaves
        // more than 0.
        const __m256i first = _mm256_cmpeq_epi16(_mm256_subs_epu16(load(sums + i), limit), zero);
        const __m256i second = _mm256_cmpeq_epi16(_mm256_subs_epu16(load(sums + i + 16), limit), zero);
        const __m256i not_above = _mm256_permute4x64_epi64(_mm256_packs_epi16(first, second), 0xD8);
        const std::uint32_t bits = ~static_cast<std::uint32_t>(_mm256_movemask_epi8(not_above));
        found = append_positions(bits, static_cast<std::uint32_t>(i), positions, found);
    }
    return found;
}

}  // namespace

const Kernels kAvx2Kernels{"avx2",
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
