#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "rows/rows.hpp"

namespace vpr {

/// Which row holds a place, without the removed.
///
/// Ids that were given out in order need no table: the rows are searched. That is every map whose places were never
/// replaced, and a table of all ids would take more memory than their sketches.
class RowOfId {
   public:
    /// Look at the rows of an index that was opened.
    explicit RowOfId(const Rows& rows);

    std::optional<std::uint32_t> find(const Rows& rows, std::int64_t id) const;

    /// Make ready to add ids, after which `add` cannot fail.
    void make_room(const Rows& rows, const std::int64_t* ids, std::size_t count);

    /// Take in rows from `first_row` on, in order.
    void add(std::uint32_t first_row, const std::int64_t* ids, std::size_t count) noexcept;

    /// Forget an id that is there, whose row is marked as removed.
    void remove(std::int64_t id) noexcept { table_.erase(id); }

   private:
    void make_table(const Rows& rows);

    bool rising_ = true;  // ids rise with rows, and there is no table
    std::int64_t last_ = -1;
    std::unordered_map<std::int64_t, std::uint32_t> table_;
    std::unordered_map<std::int64_t, std::uint32_t> coming_;
};

}  // namespace vpr
