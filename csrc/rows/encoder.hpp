#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.hpp"
#include "memory/aligned.hpp"
#include "rows/layout.hpp"

namespace vpr {

/// Where the descriptors of a map lie. Those of many networks share most of their length: two places that have nothing
/// in common may have a similarity of 0.94. Codes of what is left when the middle is taken off are as much finer.
struct Centre {
    std::vector<float> middle;  ///< (dim)
    float spread = 1.0F;        ///< usual distance of a descriptor from it

    static constexpr float kLeastSpread = 0.02F;

    /// No middle: what is known before there are descriptors.
    static Centre origin(std::size_t dim) { return {std::vector<float>(dim, 0.0F), 1.0F}; }
};

/// How far a code may lie from what it stands for: a byte, in these shares of the spread.
struct CodeBounds {
    static constexpr std::uint8_t kUnbounded = 255;
    static constexpr double kHighUnit = 1.0 / 1024;  ///< with the upper plane alone, a nibble standing for its middle
    static constexpr double kUnit = 1.0 / 8192;      ///< with both planes
};

/// Where the parts of one encoded descriptor go.
struct RowTarget {
    std::uint8_t* high;        ///< upper four bits of each code value plus 128, plane_bytes
    std::uint8_t* low;         ///< lower four bits, plane_bytes
    std::uint8_t* values;      ///< the stored descriptor, value_bytes
    std::uint8_t* high_bound;  ///< see CodeBounds
    std::uint8_t* bound;
    std::uint8_t* sketch_block;  ///< the block of the row, sketch_block_bytes; null if there are no sketches
    std::size_t sketch_row;      ///< which of its 32
};

/// A query, ready to be compared with rows.
struct EncodedQuery {
    AlignedVector<float> values;          ///< (value_count), the query itself
    AlignedVector<std::int8_t> code;      ///< (code_dim), whole steps, -127 to 127
    AlignedVector<std::int8_t> fraction;  ///< (code_dim), what the rounding left, in 1/256 steps; for int8 rows
    AlignedVector<std::int8_t> sketch;    ///< (code_dim), of the query without the middle; for sketches
    std::int32_t code_sum = 0;
    std::int32_t fraction_sum = 0;
    double code_length = 0;  ///< Euclidean length of `code`, in similarities
    double code_error = 0;   ///< distance of the rotated query from its code
    double middle = 0;       ///< product with the middle, which products of codes leave out
};

/// Turns descriptors into codes: a fixed random rotation, after which every dimension of any descriptor looks like a
/// normal deviate, then one step size for all rows and one for all queries, so that a product of codes is a similarity
/// but for one factor and, for each query, one term.
///
/// The rotation flips signs at random and applies a Walsh-Hadamard transform. Its arithmetic has one order; a code
/// is the same on every machine.
///
/// Source: Ailon and Chazelle, The fast Johnson-Lindenstrauss transform (SIAM J. Comput. 2009), for the rotation; Gao
/// and Long, RaBitQ (SIGMOD 2024), for sketches of signs behind it.
class Encoder {
   public:
    Encoder(const Layout& layout, const Kernels& kernels, Centre centre);

    const Centre& centre() const noexcept { return centre_; }

    /// Store a descriptor of unit length as the layout says, and encode it as stored.
    ///
    /// @return  the distance from the middle of what is stored.
    double encode_row(const float* descriptor, const RowTarget& target) const;

    /// How far a descriptor is from the middle.
    double distance(const float* descriptor) const;

    /// Read a stored descriptor back. Not for int8 rows, of which nothing is stored.
    void decode_row(const std::uint8_t* values, float* descriptor) const;

    /// @param sketched  whether sketches will be looked at.
    EncodedQuery encode_query(const float* query, bool sketched) const;

    /// The similarity of one step of a row's code times one of a query's.
    double similarity_unit() const noexcept { return row_step_ * query_step_; }

    /// Deviation, from the product of codes, of what it stands for: one code rounds each value by less than half a
    /// step.
    double product_error() const noexcept;

    /// How much the arithmetic in float32, of the rotation and of a score, may move a similarity.
    double rounding() const noexcept { return rounding_; }

   private:
    void rotate(float* values) const;

    Layout layout_;
    const Kernels& kernels_;
    Centre centre_;
    AlignedVector<float> signs_;  // (rounds, code_dim), +1 and -1, scaled where a transform follows
    AlignedVector<float> rotated_middle_;
    float query_steps_;  // in a rotated value of 1
    float row_steps_;
    double query_step_;  // the length of one
    double row_step_;
    double rounding_;
};

}  // namespace vpr
