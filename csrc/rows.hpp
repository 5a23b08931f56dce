#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace vpr {

/// What one query found: (similarity, row), best first, ties by row.
using Nearest = std::vector<std::pair<float, std::size_t>>;

/// Descriptors in the order in which they were added, with the place id of each.
///
/// They live in blocks that never move, so that a graph can point at rows while more are added.
struct Rows {
    static constexpr std::size_t kBlockRows = 1024;

    std::size_t dim = 0;
    std::vector<std::int64_t> ids;
    std::vector<std::uint8_t> removed;  ///< 0 or 1
    std::size_t removed_count = 0;
    std::vector<std::unique_ptr<float[]>> blocks;

    std::size_t size() const noexcept { return ids.size(); }

    const float* at(std::size_t row) const noexcept { return blocks[row / kBlockRows].get() + row % kBlockRows * dim; }

    /// Rows of block `block` that are in use, when there are `rows` rows.
    static std::size_t rows_in_block(std::size_t block, std::size_t rows) noexcept {
        return std::min(kBlockRows, rows - block * kBlockRows);
    }

    float* new_block() {
        blocks.push_back(std::make_unique<float[]>(kBlockRows * dim));
        return blocks.back().get();
    }

    /// The blocks that `more` appends need beyond those there are, not part of the rows yet: making them is what
    /// takes time, and needs no lock.
    std::vector<std::unique_ptr<float[]>> blocks_for(std::size_t more) const {
        const std::size_t wanted = (size() + more + kBlockRows - 1) / kBlockRows;
        std::vector<std::unique_ptr<float[]>> fresh;
        while (blocks.size() + fresh.size() < wanted) fresh.push_back(std::make_unique<float[]>(kBlockRows * dim));
        return fresh;
    }

    /// Take in the blocks of `blocks_for(more)`, and all other memory that `more` appends need.
    void make_room(std::size_t more, std::vector<std::unique_ptr<float[]>> fresh) {
        const std::size_t wanted = size() + more;
        if (ids.capacity() < wanted) ids.reserve(wanted + wanted / 2);
        if (removed.capacity() < wanted) removed.reserve(wanted + wanted / 2);
        blocks.reserve(blocks.size() + fresh.size());
        for (auto& block : fresh) blocks.push_back(std::move(block));
    }

    /// Add a row that there is room for.
    void append(std::int64_t id, const float* descriptor) noexcept {
        const std::size_t row = size();
        ids.push_back(id);
        removed.push_back(0);
        std::copy_n(descriptor, dim, blocks[row / kBlockRows].get() + row % kBlockRows * dim);
    }
};

}  // namespace vpr
