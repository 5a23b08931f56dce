// Code that all vector sets share. Each set includes this file in its own translation unit, which is compiled for its
// instruction set. Everything here is in an anonymous namespace: otherwise the linker could keep one set's copy of a
// function for all of them. For the same reason nothing here uses a template or an inline function of std::.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/plain.inl"

namespace vpr {
namespace {

/// How many bytes ahead of its loads a scan prefetches. On Zen 4, 8 KiB is best, or as good as no prefetch.
constexpr std::size_t kAhead = 8192;

/// The end of squared_length: adds the 16 lanes, then the squares of the remaining values.
inline double sum_of_squares(const double* lanes, const float* rest, std::size_t rest_count) {
    double sum = 0.0;
    for (std::size_t lane = 0; lane < 16; ++lane) sum += lanes[lane];
    for (std::size_t i = 0; i < rest_count; ++i) sum += static_cast<double>(rest[i]) * rest[i];
    return sum;
}

// The Hadamard transform. `Floats` is a set's vector of floats: Vector, kLanes, load, store, add, sub. kVectors is how
// many of them fit the registers. within(a, b) does the butterflies of all strides below kLanes in two vectors.

template <class Floats, std::size_t kVectors, std::size_t kWidth>
[[gnu::always_inline]] inline void butterflies(typename Floats::Vector (&vectors)[kVectors]) {
    if constexpr (kWidth < kVectors) {
#pragma GCC unroll 16
        for (std::size_t i = 0; i < kVectors; ++i) {
            if ((i & kWidth) != 0) continue;
            const typename Floats::Vector a = vectors[i];
            const typename Floats::Vector b = vectors[i + kWidth];
            vectors[i] = Floats::add(a, b);
            vectors[i + kWidth] = Floats::sub(a, b);
        }
        butterflies<Floats, kVectors, 2 * kWidth>(vectors);
    }
}

/// All butterflies of strides `stride` to `stride` * kVectors / 2. With kFirst, those of smaller strides come first.
template <class Floats, std::size_t kVectors, bool kFirst>
void hadamard_pass(float* values, std::size_t n, std::size_t stride) {
    for (std::size_t start = 0; start < n; start += kVectors * stride) {
        for (std::size_t i = start; i < start + stride; i += Floats::kLanes) {
            typename Floats::Vector vectors[kVectors];
#pragma GCC unroll 16
            for (std::size_t k = 0; k < kVectors; ++k) vectors[k] = Floats::load(values + i + k * stride);
            if constexpr (kFirst) {
#pragma GCC unroll 16
                for (std::size_t k = 0; k < kVectors; k += 2) Floats::within(vectors[k], vectors[k + 1]);
            }
            butterflies<Floats, kVectors, 1>(vectors);
#pragma GCC unroll 16
            for (std::size_t k = 0; k < kVectors; ++k) Floats::store(values + i + k * stride, vectors[k]);
        }
    }
}

/// A pass over as many strides as the registers and n allow.
///
/// @return  the next stride.
template <class Floats, bool kFirst, std::size_t kVectors>
std::size_t longest_pass(float* values, std::size_t n, std::size_t stride) {
    if constexpr (kVectors > 2) {
        if (n / stride < kVectors) return longest_pass<Floats, kFirst, kVectors / 2>(values, n, stride);
    }
    hadamard_pass<Floats, kVectors, kFirst>(values, n, stride);
    return stride * kVectors;
}

template <class Floats>
void hadamard(float* values, std::size_t n) {
    std::size_t stride = longest_pass<Floats, true, Floats::kVectors>(values, n, Floats::kLanes);
    while (stride < n) stride = longest_pass<Floats, false, Floats::kVectors>(values, n, stride);
}

// Products with planes. Up to four rows share the loads of the query.
//
// `Rows::products<kRows, kStep>` is a set's loop over the lines of kRows planes. With line i of row r it prefetches the
// line kStep * i lines after ahead[r]. With kStep 0 it prefetches nothing.

template <class Rows>
[[gnu::always_inline]] inline void up_to_three_rows(const std::int8_t* query, const std::uint8_t* const* planes,
                                                    std::size_t count, std::size_t plane_bytes,
                                                    std::int32_t* products) {
    if (count == 3) Rows::template products<3, 0>(query, planes, plane_bytes, products, nullptr);
    if (count == 2) Rows::template products<2, 0>(query, planes, plane_bytes, products, nullptr);
    if (count == 1) Rows::template products<1, 0>(query, planes, plane_bytes, products, nullptr);
}

/// Prefetches the next four rows. A core has too few buffers to request all lines of many long rows at once.
template <class Rows>
void plane_products(const std::int8_t* query, const std::uint8_t* const* planes, std::size_t count,
                    std::size_t plane_bytes, std::int32_t* products) {
    for (; count >= 4; count -= 4, planes += 4, products += 4) {
        const std::uint8_t* ahead[4];
        for (std::size_t r = 0; r < 4; ++r) ahead[r] = planes[r + 4 < count ? r + 4 : r];
        Rows::template products<4, 1>(query, planes, plane_bytes, products, ahead);
    }
    up_to_three_rows<Rows>(query, planes, count, plane_bytes, products);
}

/// Prefetches memory in order. Processors do not recognise the pattern of reading four rows at once.
template <class Rows>
void plane_scan(const std::int8_t* query, const std::uint8_t* planes, std::size_t count, std::size_t plane_bytes,
                std::int32_t* products) {
    const std::uint8_t* rows[4] = {planes, planes + plane_bytes, planes + 2 * plane_bytes, planes + 3 * plane_bytes};
    for (; count >= 4; count -= 4, products += 4) {
        const std::uint8_t* const first = rows[0] + kAhead;
        const std::uint8_t* const ahead[4] = {first, first + 64, first + 128, first + 192};
        Rows::template products<4, 4>(query, rows, plane_bytes, products, ahead);
        for (const std::uint8_t*& row : rows) row += 4 * plane_bytes;
    }
    up_to_three_rows<Rows>(query, rows, count, plane_bytes, products);
}

}  // namespace
}  // namespace vpr
