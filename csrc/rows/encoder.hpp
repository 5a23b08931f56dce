#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.hpp"
#include "memory/aligned.hpp"
#include "rows/layout.hpp"

namespace vpr {

/// The mean of a map's descriptors. It is subtracted before they are encoded.
///
/// Descriptors of many networks share most of their length: two unrelated places may have a similarity of 0.94. Codes
/// of the rest, without the mean, are that much finer.
struct Centre {
    std::vector<float> middle;  ///< (dim), the mean
    float spread = 1.0F;        ///< typical distance of a descriptor from the middle

    static constexpr float kLeastSpread = 0.02F;

    /// No middle: for an index without descriptors.
    static Centre origin(std::size_t dim) { return {std::vector<float>(dim, 0.0F), 1.0F}; }
};

/// How far a code may lie from the descriptor that it encodes: one byte, in these fractions of the spread.
struct CodeBounds {
    static constexpr std::uint8_t kUnbounded = 255;
    static constexpr double kHighUnit = 1.0 / 1024;  ///< upper plane only; a nibble stands for the middle of its codes
    static constexpr double kUnit = 1.0 / 8192;      ///< both planes
};

/// Where the parts of one encoded descriptor are written.
struct RowTarget {
    std::uint8_t* high;        ///< upper four bits of each code value plus 128, plane_bytes
    std::uint8_t* low;         ///< lower four bits, plane_bytes
    std::uint8_t* values;      ///< the stored descriptor, value_bytes
    std::uint8_t* high_bound;  ///< see CodeBounds
    std::uint8_t* bound;
    std::uint8_t* sketch_block;  ///< the block of the row, sketch_block_bytes; null if there are no sketches
    std::size_t sketch_row;      ///< which of its 32 rows
};

/// A query, ready to be compared with rows.
struct EncodedQuery {
    AlignedVector<float> values;          ///< (value_count), the query itself
    AlignedVector<std::int8_t> code;      ///< (code_dim), whole steps, -127 to 127
    AlignedVector<std::int8_t> fraction;  ///< (code_dim), the rounding error in 1/256 steps; for int8 rows
    AlignedVector<std::int8_t> sketch;    ///< (code_dim), code of the query minus the middle; for sketches
    std::int32_t code_sum = 0;
    std::int32_t fraction_sum = 0;
    double code_length = 0;  ///< Euclidean length of `code`, in similarities
    double code_error = 0;   ///< distance of the rotated query from its code
    double middle = 0;       ///< product with the middle; products of codes lack it
};

/// Turns descriptors into codes.
///
/// A fixed random rotation makes every dimension of any descriptor look normally distributed. All rows share one step
/// size, and all queries another. So a product of codes is a similarity, up to one factor and one term for each query.
///
/// The rotation flips signs at random and applies a Walsh-Hadamard transform. Its arithmetic has a fixed order, so a
/// code is the same on every machine.
///
/// Source: Ailon and Chazelle, The fast Johnson-Lindenstrauss transform (SIAM J. Comput. 2009), for the rotation; Gao
/// and Long, RaBitQ (SIGMOD 2024), for sketches of signs behind it.
class Encoder {
   public:
    Encoder(const Layout& layout, const Kernels& kernels, Centre centre);

    const Centre& centre() const noexcept { return centre_; }

    /// Store a descriptor of unit length in the layout's precision, and encode what is stored.
    ///
    /// @return  the distance of the stored descriptor from the middle.
    double encode_row(const float* descriptor, const RowTarget& target) const;

    /// The distance of a descriptor from the middle.
    double distance(const float* descriptor) const;

    /// Read a stored descriptor back. Not for int8 rows, which store none.
    void decode_row(const std::uint8_t* values, float* descriptor) const;

    /// @param sketched  whether sketches will be compared.
    EncodedQuery encode_query(const float* query, bool sketched) const;

    /// The similarity of one step of a row's code times one step of a query's code.
    double similarity_unit() const noexcept { return row_step_ * query_step_; }

    /// Standard deviation of a product of codes from the true product, in steps. It counts the rounding of one code, by
    /// up to half a step for each value.
    double product_error() const noexcept;

    /// How far float32 rounding, in the rotation and in a score, may move a similarity.
    double rounding() const noexcept { return rounding_; }

   private:
    void rotate(float* values) const;

    Layout layout_;
    const Kernels& kernels_;
    Centre centre_;
    AlignedVector<float> signs_;  // (rounds, code_dim), +1 or -1, scaled where a transform follows
    AlignedVector<float> rotated_middle_;
    float query_steps_;  // steps in a rotated value of 1
    float row_steps_;
    double query_step_;  // length of one step
    double row_step_;
    double rounding_;
};

}  // namespace vpr
