#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "rows/rows.hpp"

namespace vpr {

/// Finds the row of a place. Removed rows are left out.
///
/// If ids rise with the rows, a binary search over the rows needs no table. This is so for every map whose places were
/// never replaced. A table of all ids would take more memory than their sketches.
class RowOfId {
   public:
    /// Read the ids of an index's rows.
    explicit RowOfId(const Rows& rows);

    std::optional<std::uint32_t> find(const Rows& rows, std::int64_t id) const;

    /// Prepare to add ids, so that `add` cannot fail.
    void make_room(const Rows& rows, const std::int64_t* ids, std::size_t count);

    /// Add ids, as rows from `first_row` on.
    void add(std::uint32_t first_row, const std::int64_t* ids, std::size_t count) noexcept;

    /// Remove an id that is in the index. Its row must be marked as removed.
    void remove(std::int64_t id) noexcept { table_.erase(id); }

   private:
    void make_table(const Rows& rows);

    bool rising_ = true;  // ids rise with rows, and there is no table
    std::int64_t last_ = -1;
    std::unordered_map<std::int64_t, std::uint32_t> table_;
    std::unordered_map<std::int64_t, std::uint32_t> coming_;
};

}  // namespace vpr
