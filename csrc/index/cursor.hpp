#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "index/place_index.hpp"

namespace vpr {

/// Searches for one camera: frame after frame, each near the one before.
///
/// A walk starts from the rows that the last frame found, instead of the graph's entry. Half the effort then finds as
/// much. The answer is accepted if it contains a row of the last frame and its best similarity is in the range of the
/// last frames. Otherwise the robot may have been carried elsewhere, and the search is repeated from the entry with
/// full effort. The first frame is searched that way too.
///
/// Thread-safe, but meant for one stream of frames. The index must outlive the cursor.
class Cursor {
   public:
    explicit Cursor(const PlaceIndex& index) : index_(index) {}

    const PlaceIndex& index() const noexcept { return index_; }

    /// As PlaceIndex::search, for one query.
    SearchResult search(const float* query, const SearchOptions& options);

    /// Forget the last frames.
    void reset();

    /// Whether the last search started from the frame before it, and its answer was accepted.
    bool followed() const;

   private:
    bool accepts(const Nearest& nearest) const;
    void learn(const Nearest& nearest, bool followed);

    const PlaceIndex& index_;
    mutable std::mutex mutex_;
    std::vector<std::uint32_t> near_;  // rows that the last frame found, best first
    bool followed_ = false;
    std::size_t lost_ = 0;  // frames since the last one that followed
    double level_ = 0;      // running mean of the best similarity
    double spread_ = 0;     // running mean of its distance from the level
};

}  // namespace vpr
