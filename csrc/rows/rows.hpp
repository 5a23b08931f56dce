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

/// What one query found: (similarity, row).
using Nearest = std::vector<std::pair<float, std::uint32_t>>;

/// Descriptors in the order in which they were added, each with its place id and its codes.
///
/// What a search reads together lies together: a walk reads upper planes alone, a scan of sketches nothing else.
struct Rows {
    static constexpr std::size_t kLargest = 0x7FFFFFFE;  // rows; a walk needs one bit of 32

    Layout layout;
    std::size_t count = 0;
    std::size_t removed_count = 0;
    float farthest = 0;  ///< no row, published or written, is farther from the encoder's middle
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

    /// The columns, in the order in which a file has them, with the number of records of each.
    static constexpr std::size_t kColumns = 8;
    std::array<std::pair<Column*, std::size_t>, kColumns> columns();
    std::array<std::pair<const Column*, std::size_t>, kColumns> columns() const;

    /// Memory for `more` rows: `growth_for` makes it and takes time, `grow` takes it in.
    using Growth = std::array<Column::Growth, kColumns>;
    Growth growth_for(std::size_t more) const;
    void grow(Growth growth);

    /// Write a row that is not published yet, where there is memory for it. Searches may go on meanwhile.
    ///
    /// @return  see Encoder::encode_row.
    double write(std::size_t row, std::int64_t id, const float* descriptor, const Encoder& encoder);

    /// Let searches see the next `more` rows, which must have been written. Searches must wait meanwhile.
    void publish(std::size_t more) noexcept;

    void set_farthest(double distance) noexcept;

    /// The same rows, encoded anew; rows that are written and not published are left behind. Not for int8 rows.
    Rows encoded_by(const Encoder& encoder) const;

   private:
    // The block of sketches that published and written rows share, with those of the written alone.
    AlignedVector<std::uint8_t> pending_sketches_;
};

}  // namespace vpr
