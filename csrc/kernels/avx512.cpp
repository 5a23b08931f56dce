// AVX-512 F, BW, DQ, VL and VNNI: desktops and servers since Ice Lake and Zen 4.

#if defined(__x86_64__)

#if !defined(__clang__)
// GCC 12 warns about an undefined value in its own intrinsics, which no instruction reads (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "kernels/sets.hpp"
#include "kernels/x86.inl"

namespace vpr {
namespace {

[[gnu::always_inline]] inline __m512i load(const void* at) { return _mm512_loadu_si512(at); }

// For ternarylogic: take bits of the second operand where the first has ones, else bits of the third.
constexpr int kSelect = 0xCA;

struct Floats {
    using Vector = __m512;
    static constexpr std::size_t kLanes = 16;
    static constexpr std::size_t kVectors = 16;

    static Vector load(const float* at) { return _mm512_loadu_ps(at); }
    static void store(float* at, Vector a) { _mm512_storeu_ps(at, a); }
    static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
    static Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }

    /// Strides 1 and 2 separate the even and odd values of each four floats, strides 4 and 8 those of four quarters.
    /// The third shuffle of each kind restores the order.
    static void within(Vector& a, Vector& b) {
        for (int i = 0; i < 2; ++i) {
            const Vector even = _mm512_shuffle_ps(a, b, 0x88);
            const Vector odd = _mm512_shuffle_ps(a, b, 0xDD);
            a = add(even, odd);
            b = sub(even, odd);
        }
        const Vector c = _mm512_shuffle_ps(a, b, 0x88);
        const Vector d = _mm512_shuffle_ps(a, b, 0xDD);
        a = c;
        b = d;
        for (int i = 0; i < 2; ++i) {
            const Vector even = _mm512_shuffle_f32x4(a, b, 0x88);
            const Vector odd = _mm512_shuffle_f32x4(a, b, 0xDD);
            a = add(even, odd);
            b = sub(even, odd);
        }
        const Vector e = _mm512_shuffle_f32x4(a, b, 0x88);
        const Vector f = _mm512_shuffle_f32x4(a, b, 0xDD);
        a = e;
        b = f;
    }
};

/// A plane and the sums of its products. High nibbles are not shifted: they count 16 times their value until they are
/// summed.
struct Row {
    const std::uint8_t* plane;
    __m512i low = _mm512_setzero_si512();
    __m512i high = _mm512_setzero_si512();

    [[gnu::always_inline]] void add(std::size_t line, __m512i low_query, __m512i high_query) {
        __m512i nibbles = load(plane + line);
        asm("" : "+v"(nibbles));  // keeps GCC 12 from loading the line twice; loads are the bottleneck
        low = _mm512_dpbusd_epi32(low, _mm512_and_si512(nibbles, _mm512_set1_epi8(15)), low_query);
        high = _mm512_dpbusd_epi32(high, _mm512_and_si512(nibbles, _mm512_set1_epi8(-16)), high_query);
    }

    __m512i sums() const { return _mm512_add_epi32(low, _mm512_srai_epi32(high, 4)); }
};

/// Adds neighbouring lanes of a and of b. The results alternate: a, b, a, b, ...
[[gnu::always_inline]] inline __m512i add_pairs(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

struct Rows {
    template <std::size_t kRows, std::size_t kStep>
    [[gnu::always_inline]] static void products(const std::int8_t* query, const std::uint8_t* const* planes,
                                                std::size_t plane_bytes, std::int32_t* products,
                                                const std::uint8_t* const* ahead) {
        // Four variables, because GCC 12 would keep an array in memory.
        Row a{planes[0]};
        Row b{planes[kRows > 1 ? 1 : 0]};
        Row c{planes[kRows > 2 ? 2 : 0]};
        Row d{planes[kRows > 3 ? 3 : 0]};
        for (std::size_t line = 0; line < plane_bytes; line += 64) {
            if constexpr (kStep > 0) {
#pragma GCC unroll 4
                for (std::size_t r = 0; r < kRows; ++r) __builtin_prefetch(ahead[r] + kStep * line);
            }
            const __m512i low_query = load(query + 2 * line);
            const __m512i high_query = load(query + 2 * line + 64);
            a.add(line, low_query, high_query);
            if constexpr (kRows > 1) b.add(line, low_query, high_query);
            if constexpr (kRows > 2) c.add(line, low_query, high_query);
            if constexpr (kRows > 3) d.add(line, low_query, high_query);
        }
        const __m512i ab = add_pairs(a.sums(), b.sums());
        const __m512i cd = add_pairs(c.sums(), d.sums());
        const __m512i abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        store_products<kRows>(_mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1)),
                              products);
    }
};

std::int32_t code_product(const std::uint8_t* high_a, const std::uint8_t* low_a, const std::uint8_t* high_b,
                          const std::uint8_t* low_b, std::size_t plane_bytes) {
    const __m512i high_mask = _mm512_set1_epi8(-16);
    const __m512i zero_code = _mm512_set1_epi8(-128);
    __m512i first = _mm512_setzero_si512();
    __m512i second = _mm512_setzero_si512();
    __m512i offset = _mm512_setzero_si512();  // sum of 128 b: the surplus, because 128 is not subtracted from a
    for (std::size_t line = 0; line < plane_bytes; line += 64) {
        const __m512i ha = load(high_a + line);
        const __m512i la = load(low_a + line);
        const __m512i hb = load(high_b + line);
        const __m512i lb = load(low_b + line);
        const __m512i first_a = _mm512_ternarylogic_epi32(high_mask, _mm512_slli_epi16(ha, 4), la, kSelect);
        const __m512i second_a = _mm512_ternarylogic_epi32(high_mask, ha, _mm512_srli_epi16(la, 4), kSelect);
        const __m512i first_b =
            _mm512_xor_si512(_mm512_ternarylogic_epi32(high_mask, _mm512_slli_epi16(hb, 4), lb, kSelect), zero_code);
        const __m512i second_b =
            _mm512_xor_si512(_mm512_ternarylogic_epi32(high_mask, hb, _mm512_srli_epi16(lb, 4), kSelect), zero_code);
        first = _mm512_dpbusd_epi32(first, first_a, first_b);
        second = _mm512_dpbusd_epi32(second, second_a, second_b);
        offset = _mm512_dpbusd_epi32(offset, zero_code, first_b);
        offset = _mm512_dpbusd_epi32(offset, zero_code, second_b);
    }
    const __m512i sum = _mm512_sub_epi32(_mm512_add_epi32(first, second), offset);
    return sum_of_lanes(_mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1)));
}

/// Adds 128-bit lanes 0 and 1, and lanes 2 and 3, of two vectors.
[[gnu::always_inline]] inline __m512i add_quarters(__m512i a, __m512i b) {
    return _mm512_add_epi16(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
}

void sketch_sums(const std::uint8_t* tables, std::size_t groups, const std::uint8_t* blocks, std::size_t count,
                 std::uint16_t* sums) {
    const __m512i mask = _mm512_set1_epi8(15);
    const std::size_t block_bytes = 16 * groups;
    for (std::size_t block = 0; block < count; ++block, blocks += block_bytes, sums += 32) {
        // A 16-bit word holds two rows, the odd one in its upper byte. `low` and `high` sum words, `_odd` the upper
        // bytes.
        __m512i low = _mm512_setzero_si512();
        __m512i low_odd = _mm512_setzero_si512();
        __m512i high = _mm512_setzero_si512();
        __m512i high_odd = _mm512_setzero_si512();
        for (std::size_t at = 0; at < block_bytes; at += 256) {
            __m512i low_bytes = _mm512_setzero_si512();
            __m512i high_bytes = _mm512_setzero_si512();
#pragma GCC unroll 4
            for (std::size_t line = 0; line < 256; line += 64) {
                __builtin_prefetch(blocks + at + line + kAhead);
                const __m512i nibbles = load(blocks + at + line);
                const __m512i table = load(tables + at + line);
                low_bytes = _mm512_add_epi8(low_bytes, _mm512_shuffle_epi8(table, _mm512_and_si512(nibbles, mask)));
                high_bytes = _mm512_add_epi8(
                    high_bytes, _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(nibbles, 4), mask)));
            }
            low = _mm512_add_epi16(low, low_bytes);
            high = _mm512_add_epi16(high, high_bytes);
            low_odd = _mm512_add_epi16(low_odd, _mm512_srli_epi16(low_bytes, 8));
            high_odd = _mm512_add_epi16(high_odd, _mm512_srli_epi16(high_bytes, 8));
        }
        const __m512i low_even = _mm512_sub_epi16(low, _mm512_slli_epi16(low_odd, 8));
        const __m512i high_even = _mm512_sub_epi16(high, _mm512_slli_epi16(high_odd, 8));
        const __m512i low_rows = add_quarters(_mm512_unpacklo_epi16(low_even, low_odd),  //
                                              _mm512_unpackhi_epi16(low_even, low_odd));
        const __m512i high_rows =
            add_quarters(_mm512_unpacklo_epi16(high_even, high_odd), _mm512_unpackhi_epi16(high_even, high_odd));
        _mm512_storeu_si512(sums, add_quarters(low_rows, high_rows));
    }
}

std::size_t above(const std::uint16_t* sums, std::size_t count, std::uint16_t threshold, std::uint32_t* positions) {
    const __m512i limit = _mm512_set1_epi16(static_cast<short>(threshold));
    std::size_t found = 0;
    for (std::size_t i = 0; i < count; i += 32) {
        const std::uint32_t bits = _mm512_cmpgt_epu16_mask(load(sums + i), limit);
        if (bits != 0) found = append_positions(bits, static_cast<std::uint32_t>(i), positions, found);
    }
    return found;
}

}  // namespace

const Kernels kAvx512Kernels{"avx512",
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
