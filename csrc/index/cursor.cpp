#include "index/cursor.hpp"

#include <algorithm>
#include <cmath>

#include "rows/normalize.hpp"

namespace vpr {
namespace {

constexpr std::size_t kSeeds = 3;
constexpr std::size_t kNear = 10;        // rows of a frame that are remembered
constexpr std::size_t kEffortShare = 2;  // a search that follows gets this part of the effort
constexpr std::size_t kPatience = 8;     // after so many frames without success, try only one in so many

// The rate of the running means, how many spreads below the level a frame may lie, and the spread after a first frame.
constexpr double kRate = 0.125;
constexpr double kSpreads = 2.5;
constexpr double kFirstSpread = 0.03;
constexpr double kLeastSpread = 0.01;

}  // namespace

SearchResult Cursor::search(const float* query, const SearchOptions& options) {
    require_unit_rows(query, 1, index_.dim(), "query");
    const std::lock_guard<std::mutex> one_frame(mutex_);
    const auto reading = index_.locks_.read();
    SearchResult result;
    const Method method = index_.choose(options);
    result.effort.method = method;
    result.k = std::min(options.k, index_.rows_.count - index_.rows_.removed_count);
    followed_ = false;
    if (result.k == 0) return result;
    Cascade cascade = index_.cascade();
    const EncodedQuery encoded = index_.encoder_->encode_query(query, method == Method::sketch);
    Nearest nearest;
    if (method == Method::graph) {
        const std::size_t near = std::max(result.k, kNear);
        if (!near_.empty() && (lost_ < kPatience || lost_ % kPatience == 0)) {
            // Twins have no links. A walk finds them through their linked row.
            std::vector<std::uint32_t> seeds;
            for (const std::uint32_t row : near_) {
                if (seeds.size() < kSeeds && *index_.graph_->links_of(row) != Graph::kNone) seeds.push_back(row);
            }
            nearest =
                cascade.by_graph(encoded, near, std::max(near + near / 4, options.ef / kEffortShare), seeds, false);
            followed_ = accepts(nearest);
        }
        if (!followed_) nearest = cascade.by_graph(encoded, near, options.ef);
        lost_ = followed_ ? 0 : lost_ + 1;
        learn(nearest, followed_);
        nearest.resize(std::min(nearest.size(), result.k));
    } else {
        // A scan gains nothing from the last frame.
        nearest = cascade.by(method, encoded, result.k, options.ef);
    }
    index_.append_answer(nearest, result);
    result.effort = cascade.effort();
    return result;
}

bool Cursor::accepts(const Nearest& nearest) const {
    if (nearest.empty()) return false;
    // It must contain a row of the last frame, and its best similarity must be in the range of the last frames.
    const auto known = [this](const Nearest::value_type& found) {
        return std::find(near_.begin(), near_.end(), found.second) != near_.end();
    };
    return nearest.front().first >= level_ - kSpreads * spread_ && std::any_of(nearest.begin(), nearest.end(), known);
}

void Cursor::learn(const Nearest& nearest, bool followed) {
    const double best = nearest.empty() ? 0.0 : nearest.front().first;
    if (followed) {
        spread_ = std::max(kLeastSpread, spread_ + kRate * (std::abs(best - level_) - spread_));
        level_ += kRate * (best - level_);
    } else {
        level_ = best;
        spread_ = kFirstSpread;
    }
    near_.clear();
    for (const auto& [similarity, row] : nearest) {
        if (near_.size() == kNear) break;
        near_.push_back(row);
    }
}

void Cursor::reset() {
    const std::lock_guard<std::mutex> one_frame(mutex_);
    near_.clear();
    lost_ = 0;
    followed_ = false;
}

bool Cursor::followed() const {
    const std::lock_guard<std::mutex> one_frame(mutex_);
    return followed_;
}

}  // namespace vpr
