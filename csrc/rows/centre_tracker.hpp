#pragma once

#include <cstddef>
#include <optional>

#include "rows/encoder.hpp"
#include "rows/rows.hpp"

namespace vpr {

/// Decides when an index needs a new centre, and computes it.
///
/// A new centre is computed when the index has grown fourfold since the last one, or when many added rows lie far from
/// it. It is used only if it differs enough: all rows must then be encoded again.
class CentreTracker {
   public:
    /// The new centre to use before rows are added.
    ///
    /// Rows without stored descriptors (int8) cannot be encoded again. They get one centre, from the first batch, if
    /// that has 1024 rows or more.
    ///
    /// @param rows     the rows of the index, encoded by `encoder`.
    /// @param added    float32 (count, dim), the rows to add.
    /// @return         nothing if the present centre stays.
    std::optional<Centre> update_for(const Rows& rows, const Encoder& encoder, const float* added, std::size_t count);

   private:
    bool is_due(const Rows& rows, const Encoder& encoder, const float* added, std::size_t count);

    std::size_t wide_rows_ = 0;  // added since the last centre was computed, and far from the one in use
};

}  // namespace vpr
