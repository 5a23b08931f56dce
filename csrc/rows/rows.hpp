#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "rows/column.hpp"
#include "rows/encoder.hpp"
#include "rows/layout.hpp"

namespace vpr {

/// The answer to one query: (similarity, row).
using Nearest = std::vector<std::pair<float, std::uint32_t>>;

/// Descriptors in the order in which they were added, with their place ids and codes.
///
/// Data that a search reads together lies together: a walk reads only upper planes, a scan of sketches only sketches.
struct Rows {
    static constexpr std::size_t kLargest = 0x7FFFFFFE;  // rows; a walk needs one of 32 bits as a mark

    Layout layout;
    std::size_t count = 0;
    std::size_t removed_count = 0;
    float farthest = 0;  ///< at least the distance of any row, published or written, from the middle
    Column ids;          ///< int64
    Column removed;      ///< uint8, 0 or 1
    Column high_bounds;  ///< uint8, see CodeBounds
    Column bounds;       ///< uint8
    Column high;         ///< upper planes
    Column low;          ///< lower planes
    Column values;       ///< stored descriptors
    Column sketches;     ///< blocks of 32

    explicit Rows(const Layout& of);

    std::int64_t id(std::size_t row) const noexcept { return *reinterpret_cast<const std::int64_t*>(ids.at(row)); }
    bool is_removed(std::size_t row) const noexcept { return removed_count > 0 && *removed.at(row) != 0; }
    std::size_t sketch_blocks() const noexcept { return (count + Layout::kBlockRows - 1) / Layout::kBlockRows; }

    /// The columns in the order of the file, each with its number of records.
    static constexpr std::size_t kColumns = 8;
    std::array<std::pair<Column*, std::size_t>, kColumns> columns();
    std::array<std::pair<const Column*, std::size_t>, kColumns> columns() const;

    /// Memory for `more` rows. `growth_for` allocates it, which takes time; `grow` adds it.
    using Growth = std::array<Column::Growth, kColumns>;
    Growth growth_for(std::size_t more) const;
    void grow(Growth growth);

    /// Write a row behind the published ones, into memory that exists. Searches may run meanwhile.
    ///
    /// @return  see Encoder::encode_row.
    double write(std::size_t row, std::int64_t id, const float* descriptor, const Encoder& encoder);

    /// Let searches see the next `more` rows, which must be written. No search may run meanwhile.
    void publish(std::size_t more) noexcept;

    void set_farthest(double distance) noexcept;

    /// The published rows, encoded again. Not for int8 rows.
    Rows encoded_by(const Encoder& encoder) const;

   private:
    // The new sketches of a block that has published rows already. `publish` merges them into it.
    AlignedVector<std::uint8_t> pending_sketches_;
};

}  // namespace vpr
