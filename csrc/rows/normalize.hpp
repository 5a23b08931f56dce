#pragma once

#include <cstddef>

namespace vpr {

/// Scale each row to unit Euclidean length. The only home of the descriptor's final L2 norm.
///
/// @param rows    float32 (count, dim), C-contiguous.
/// @param result  float32 (count, dim), C-contiguous; may be `rows` itself.
/// @throws std::invalid_argument  a row is zero or has a non-finite value; the message names the row.
///         `result` is then unspecified.
void l2_normalize(const float* rows, std::size_t count, std::size_t dim, float* result);

/// Refuse rows that an index must never hold: values that are not finite, or a length other than 1.
///
/// @param what  what a row is called in the message: "descriptor" or "query".
/// @throws std::invalid_argument  naming the first bad row.
void require_unit_rows(const float* rows, std::size_t count, std::size_t dim, const char* what);

}  // namespace vpr
