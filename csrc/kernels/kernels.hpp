#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vpr {

/// The inner loops of the index: one table for each instruction set (scalar, avx2, avx512, neon, dotprod).
///
/// Every set gives the same bits as `scalar`. Products of codes and sums of sketches are integers and cannot differ.
/// The floating-point loops add in a stated order. Nothing is contracted into a fused operation, which would round
/// differently (-ffp-contract=off). So a desktop and a Jetson rank alike.
struct Kernels {
    const char* name;

    /// Sum of squares in double. It neither overflows nor vanishes for any finite float32 row. A NaN or an infinity
    /// makes it non-finite, so the check for them costs nothing.
    ///
    /// Lane l of 16 adds the squares of values l, l + 16, ... in order, up to the last multiple of 16. Then lanes 0 to
    /// 15, and after them the squares of the remaining values, are added to 0 in order.
    double (*squared_length)(const float* row, std::size_t dim);

    /// Inner product with a float32 row. `dim` is a multiple of 32; both pointers are 64-byte aligned.
    ///
    /// Lane l of 32 adds the products of values l, l + 32, ... Then lane l adds lane l + 16, and so on with 8, 4, 2 and
    /// 1. Each product is rounded before it is added.
    float (*dot_f32)(const float* query, const float* row, std::size_t dim);

    /// The same with a row of IEEE 754 binary16 values.
    float (*dot_f16)(const float* query, const std::uint16_t* row, std::size_t dim);

    /// Walsh-Hadamard transform in place, not scaled. n is a power of two, 64 or more; the pointer is 64-byte aligned.
    ///
    /// For stride 1, 2, ..., n / 2: values i and i + stride (i & stride == 0) become their sum and their difference.
    void (*hadamard)(float* values, std::size_t n);

    /// Rounds values to whole steps, ties to even, clipped to -127 to 127. `count` is a multiple of 16.
    ///
    /// Each value is multiplied by `steps` in place; `codes` receives the rounded values. Lane l of 16 adds the squared
    /// rounding errors of values l, l + 16, ... Then the lanes are added in order.
    ///
    /// @return  the squared distance of the codes from the values, in steps.
    float (*round_to_codes)(float* values, float steps, std::size_t count, std::int8_t* codes);

    /// Products of a query's code with planes of four bits: sum over i of query[i] * nibble i.
    ///
    /// Byte j of each 64-byte line g of a plane holds the nibble of dimension 128 g + j in its low half, and that of
    /// 128 g + 64 + j in its high half, 0 to 15. `plane_bytes` is a multiple of 64; all pointers are 64-byte aligned.
    ///
    /// @param query  int8 (2 plane_bytes), each -127 to 127.
    void (*plane_products)(const std::int8_t* query, const std::uint8_t* const* planes, std::size_t count,
                           std::size_t plane_bytes, std::int32_t* products);

    /// The same for planes that are contiguous in memory.
    void (*plane_scan)(const std::int8_t* query, const std::uint8_t* planes, std::size_t count, std::size_t plane_bytes,
                       std::int32_t* products);

    /// Product of two codes, each given as two planes: the sum of (16 h + l - 128) of one times that of the other.
    std::int32_t (*code_product)(const std::uint8_t* high_a, const std::uint8_t* low_a, const std::uint8_t* high_b,
                                 const std::uint8_t* low_b, std::size_t plane_bytes);

    /// For each row of each block of 32, the sum over groups g of tables[16 g + nibble g of the row].
    ///
    /// A block has 16 * groups bytes. Byte j of the 16 bytes of group g holds the nibble of row j in its low half, and
    /// that of row 16 + j in its high half. `groups` is a multiple of 32, at most 128. Entries are at most 63, so that
    /// four of them fit a byte and all of them fit a uint16. Pointers are 64-byte aligned.
    ///
    /// @param sums  uint16 (32 * blocks), 64-byte aligned.
    void (*sketch_sums)(const std::uint8_t* tables, std::size_t groups, const std::uint8_t* blocks, std::size_t count,
                        std::uint16_t* sums);

    /// The number of sums above a threshold. `count` is a multiple of 32.
    std::size_t (*count_above)(const std::uint16_t* sums, std::size_t count, std::uint16_t threshold);

    /// The positions of the sums above a threshold, in order. `count` is a multiple of 32.
    ///
    /// @param positions  room for `count`.
    /// @return           the number of positions.
    std::size_t (*above)(const std::uint16_t* sums, std::size_t count, std::uint16_t threshold,
                         std::uint32_t* positions);
};

/// The fastest set that this machine can run.
const Kernels& best_kernels() noexcept;

/// All sets that this machine can run, from scalar to the fastest.
std::vector<const Kernels*> available_kernels();

/// The set with this name, or the fastest set if `name` is empty.
///
/// @throws std::invalid_argument  this machine or this build lacks the set; the message names those it has.
const Kernels& kernels_named(const std::string& name);

}  // namespace vpr
