#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "rows/column.hpp"
#include "rows/layout.hpp"

namespace vpr {

/// An HNSW graph as it is searched: flat arrays, neighbours as numbers, lists that start on a cache line.
///
/// Level 0 links rows. The levels above link only the few rows that reach them. These have numbers of their own, so
/// that a descent touches little memory. Rows with the same code are one node: the first is linked, the others are its
/// twins. If all were linked, thousands of identical frames (a covered lens, a parked robot) would lead only to each
/// other and hide the places behind them.
///
/// Source: Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
/// Small World graphs (TPAMI 2018).
struct Graph {
    static constexpr std::uint32_t kNone = 0xFFFFFFFF;
    static constexpr std::size_t kMostLevels = 31;

    /// A row that is on level 1 or above.
    struct UpperNode {
        std::uint32_t row;
        std::uint32_t levels;      ///< number of its levels above 0, 1 or more
        std::uint32_t first_list;  ///< its list of level 1, in units of m links; those of higher levels follow
    };

    Graph(std::size_t m_, std::size_t ef_construction_)
        : m(m_), ef_construction(ef_construction_), links(link_words(m_) * sizeof(std::uint32_t)) {}

    static std::size_t link_words(std::size_t m) { return round_up(2 * m, 16); }
    std::size_t link_words() const noexcept { return links.record_bytes() / sizeof(std::uint32_t); }

    /// Neighbours of a row on level 0: up to `link_words` numbers, then kNone.
    const std::uint32_t* links_of(std::size_t row) const noexcept {
        return reinterpret_cast<const std::uint32_t*>(links.at(row));
    }
    std::uint32_t* links_of(std::size_t row) noexcept { return reinterpret_cast<std::uint32_t*>(links.at(row)); }

    /// Neighbours of an upper node on level 1 or above, as upper numbers: up to m, then kNone.
    const std::uint32_t* upper_links_of(std::size_t node, std::size_t level) const noexcept {
        return upper_links.data() + (upper[node].first_list + level - 1) * m;
    }
    std::uint32_t* upper_links_of(std::size_t node, std::size_t level) noexcept {
        return upper_links.data() + (upper[node].first_list + level - 1) * m;
    }

    std::size_t m;
    std::size_t ef_construction;
    std::size_t rows = 0;  ///< nodes and twins
    Column links;
    std::vector<UpperNode> upper;  ///< in the order of their rows
    std::vector<std::uint32_t> upper_links;
    std::uint32_t entry = kNone;  ///< where a descent starts: an upper node or, if there is none, a row
    std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> twins;  ///< by linked row
};

}  // namespace vpr
