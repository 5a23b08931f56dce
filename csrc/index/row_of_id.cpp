#include "index/row_of_id.hpp"

namespace vpr {

RowOfId::RowOfId(const Rows& rows) {
    for (std::size_t row = 0; row < rows.count && rising_; ++row) {
        rising_ = rows.id(row) > last_;
        last_ = rows.id(row);
    }
    if (!rising_) make_table(rows);
}

void RowOfId::make_table(const Rows& rows) {
    table_.reserve(rows.count);
    for (std::size_t row = 0; row < rows.count; ++row) {
        if (!rows.is_removed(row)) table_.emplace(rows.id(row), static_cast<std::uint32_t>(row));
    }
    rising_ = false;
}

std::optional<std::uint32_t> RowOfId::find(const Rows& rows, std::int64_t id) const {
    if (!rising_) {
        const auto found = table_.find(id);
        return found == table_.end() ? std::nullopt : std::optional(found->second);
    }
    std::size_t low = 0;
    for (std::size_t high = rows.count; low < high;) {
        const std::size_t middle = low + (high - low) / 2;
        (rows.id(middle) < id ? low : high) = rows.id(middle) < id ? middle + 1 : middle;
    }
    if (low == rows.count || rows.id(low) != id || rows.is_removed(low)) return std::nullopt;
    return static_cast<std::uint32_t>(low);
}

void RowOfId::make_room(const Rows& rows, const std::int64_t* ids, std::size_t count) {
    coming_.clear();
    if (rising_) {
        std::int64_t last = last_;
        bool rising = true;
        for (std::size_t i = 0; i < count; ++i) {
            rising = rising && ids[i] > last;
            last = ids[i];
        }
        if (rising) return;
        make_table(rows);
    }
    // Allocate nodes now; `add` only moves them.
    for (std::size_t i = 0; i < count; ++i) coming_.emplace(ids[i], 0);
    table_.reserve(table_.size() + count);
}

void RowOfId::add(std::uint32_t first_row, const std::int64_t* ids, std::size_t count) noexcept {
    if (rising_) {
        if (count > 0) last_ = ids[count - 1];
        return;
    }
    for (std::size_t i = 0; i < count; ++i) coming_[ids[i]] = first_row + static_cast<std::uint32_t>(i);
    table_.merge(coming_);
}

}  // namespace vpr
