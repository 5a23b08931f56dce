#include "rows/centre_tracker.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace vpr {
namespace {

// The centre is computed at 64 rows, and again each time the index has grown fourfold.
constexpr std::size_t kFirstCentred = 64;
constexpr std::size_t kFirstCentredCodes = 1024;  // int8: only once
constexpr std::size_t kGrowth = 4;

// A row this many spreads from the middle is wide: its code is clipped much. If this share of rows is wide, the centre
// is computed at once.
constexpr double kWide = 2.5;
constexpr double kWideShare = 0.02;

// A centre is replaced if the middle has moved by this share of the spread, or the spread has changed by as much.
constexpr double kMoved = 0.2;

/// The mean of the rows of an index and of those to add, and their distance from it.
///
/// @return  nothing if a value is impossible, which a crafted file can cause.
std::optional<Centre> centre_of(const Rows& rows, const Encoder& encoder, const float* added, std::size_t count) {
    const std::size_t dim = rows.layout.dim;
    const std::size_t total = rows.count + count;
    std::vector<float> descriptor(dim);
    const auto for_each = [&](const auto& visit) {
        for (std::size_t row = 0; row < rows.count; ++row) {
            encoder.decode_row(rows.values.at(row), descriptor.data());
            visit(descriptor.data());
        }
        for (std::size_t i = 0; i < count; ++i) visit(added + i * dim);
    };
    std::vector<double> sum(dim, 0.0);
    for_each([&](const float* values) {
        for (std::size_t i = 0; i < dim; ++i) sum[i] += values[i];
    });
    Centre centre = Centre::origin(dim);
    for (std::size_t i = 0; i < dim; ++i) centre.middle[i] = static_cast<float>(sum[i] / static_cast<double>(total));

    std::vector<double> distances;
    distances.reserve(total);
    double squared = 0;
    for_each([&](const float* values) {
        double off = 0;
        for (std::size_t i = 0; i < dim; ++i) {
            off += (static_cast<double>(values[i]) - centre.middle[i]) * (values[i] - centre.middle[i]);
        }
        squared += off;
        distances.push_back(std::sqrt(off));
    });
    // A unit vector is at most 2 from the mean of unit vectors, plus rounding.
    const auto possible = [](double distance) { return distance <= 2.02; };
    if (!std::all_of(distances.begin(), distances.end(), possible)) return std::nullopt;
    // The root mean square, or half the 99th percentile if that is more: after hours at the dock, the few rows of a
    // drive lie much farther out than the rest.
    const auto far = distances.end() - 1 - static_cast<std::ptrdiff_t>(total / 100);
    std::nth_element(distances.begin(), far, distances.end());
    const double spread = std::max(std::sqrt(squared / static_cast<double>(total)), *far / 2);
    centre.spread = std::clamp(static_cast<float>(spread), Centre::kLeastSpread, 1.0F);
    return centre;
}

bool has_moved(const Centre& from, const Centre& to) {
    double moved = 0;
    for (std::size_t i = 0; i < to.middle.size(); ++i) {
        moved += std::pow(static_cast<double>(to.middle[i]) - from.middle[i], 2);
    }
    const double ratio = to.spread / from.spread;
    return !(std::sqrt(moved) < kMoved * to.spread && ratio > 1 - kMoved && ratio < 1 + kMoved);
}

}  // namespace

bool CentreTracker::is_due(const Rows& rows, const Encoder& encoder, const float* added, std::size_t count) {
    if (rows.layout.precision == Precision::int8 && (rows.count > 0 || count < kFirstCentredCodes)) return false;
    std::size_t due = kFirstCentred;
    while (due <= rows.count) due *= kGrowth;
    const double wide = kWide * encoder.centre().spread;
    for (std::size_t i = 0; i < count; ++i) {
        wide_rows_ += encoder.distance(added + i * rows.layout.dim) > wide ? 1 : 0;
    }
    const std::size_t total = rows.count + count;
    return total >= due ||
           (wide_rows_ >= kFirstCentred && static_cast<double>(wide_rows_) >= kWideShare * static_cast<double>(total));
}

std::optional<Centre> CentreTracker::update_for(const Rows& rows, const Encoder& encoder, const float* added,
                                                std::size_t count) {
    if (!is_due(rows, encoder, added, count)) return std::nullopt;
    wide_rows_ = 0;
    std::optional<Centre> centre = centre_of(rows, encoder, added, count);
    if (centre && !has_moved(encoder.centre(), *centre)) centre.reset();
    return centre;
}

}  // namespace vpr
