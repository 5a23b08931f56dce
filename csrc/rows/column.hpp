#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace vpr {

/// A growing array of records of one size, in chunks that never move. The first chunks may lie in a mapped file.
///
/// The owner keeps readers and the writer apart. Growing has two steps, so that only the short second one excludes
/// readers.
class Column {
   public:
    struct FreeMemory {
        std::size_t alignment = 0;
        void operator()(std::uint8_t* memory) const noexcept;
    };
    using Memory = std::unique_ptr<std::uint8_t[], FreeMemory>;

    /// Chunks that are not part of the column yet.
    struct Growth {
        std::size_t first = 0;  ///< index of the first of them
        std::vector<Memory> chunks;
    };

    /// @param record_bytes   0 for a column that holds nothing.
    /// @param chunk_records  a power of two.
    explicit Column(std::size_t record_bytes = 0, std::size_t chunk_records = 16384);

    std::size_t record_bytes() const noexcept { return record_bytes_; }

    std::uint8_t* at(std::size_t record) noexcept {
        return chunks_[record >> shift_] + (record & mask_) * record_bytes_;
    }
    const std::uint8_t* at(std::size_t record) const noexcept {
        return chunks_[record >> shift_] + (record & mask_) * record_bytes_;
    }

    /// Records from `record` to the end of its chunk, but not beyond `count`. They are contiguous in memory.
    std::size_t run_length(std::size_t record, std::size_t count) const noexcept;

    /// Use a mapped file for the first `count` records. Only for an empty column.
    void adopt(std::uint8_t* section, std::size_t count);

    /// The chunks that the column lacks to hold `wanted` records. `used` records are in it. A chunk that the mapped
    /// file fills only in part is replaced by a copy with room.
    Growth growth_for(std::size_t used, std::size_t wanted) const;

    /// Add the chunks that `growth_for` made.
    void grow(Growth growth);

    /// Call after records `from` to `to` were filled: requests huge pages for memory that is full. A search reads rows
    /// in random order, and with pages of 4 KiB it waits longer for their addresses than for the rows. Huge pages from
    /// the start would cost a small index megabytes.
    void settle(std::size_t from, std::size_t to) noexcept;

   private:
    std::size_t record_bytes_;
    std::size_t shift_ = 0;
    std::size_t mask_ = 0;
    std::vector<std::uint8_t*> chunks_;
    std::vector<Memory> owned_;  // parallel to `chunks_`; null where the chunk is mapped
};

}  // namespace vpr
