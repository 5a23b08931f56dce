#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "index/place_index.hpp"

namespace vpr {

/// Searches for one camera: frame after frame, each near the last one.
///
/// A walk through the graph starts from what the last frame found, instead of the graph's entry, and then half the
/// effort finds as much. It is believed as long as it ends among the places of the last frame and is as sure of them as
/// the last frames were. Else the robot may have been carried elsewhere, and the search is made from nothing with all
/// its effort; so is the first.
///
/// Thread-safe, but meant for one stream of frames. The index must outlive it.
class Cursor {
   public:
    explicit Cursor(const PlaceIndex& index) : index_(index) {}

    const PlaceIndex& index() const noexcept { return index_; }

    /// As PlaceIndex::search, of one query.
    SearchResult search(const float* query, const SearchOptions& options);

    /// Forget the last frames.
    void reset();

    /// Whether the last search started from the frame before it and was content with that.
    bool followed() const;

   private:
    bool content(const Nearest& nearest) const;
    void learn(const Nearest& nearest, bool followed);

    const PlaceIndex& index_;
    mutable std::mutex mutex_;
    std::vector<std::uint32_t> near_;  // what the last frame found, best first
    bool followed_ = false;
    std::size_t lost_ = 0;  // frames since the last that followed
    double level_ = 0;      // running mean of the best similarity
    double spread_ = 0;     // and of its distance from that
};

}  // namespace vpr
