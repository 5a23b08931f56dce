// Cascade::scan, the exact search.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "search/cascade.hpp"

namespace vpr {
namespace {

constexpr std::size_t kScanRows = 2048;  // their products fit the nearest cache
constexpr std::size_t kPromising = 16;   // rows whose scores give the floor; more do not raise it

/// The product that a row must reach, given how much each unit of its bound may add. Whole numbers, rounded so that no
/// row is dropped that could reach the similarity.
struct Limit {
    std::int64_t least;
    std::int64_t bound_worth;

    /// @param similarity  what must be reached. A product of 1 is worth `unit`, a bound of 1 is worth `bound_unit`.
    static Limit of(double similarity, double bound_unit, double unit) {
        return {whole(similarity / unit) - 1, whole(bound_unit / unit) + 1};
    }

    bool reached(std::int32_t product, std::uint8_t bound) const noexcept {
        return bound == CodeBounds::kUnbounded || product + bound * bound_worth >= least;
    }

   private:
    static std::int64_t whole(double steps) {
        constexpr double kMost = 1e15;  // beyond any product, and safe to add to; NaN becomes -kMost
        return static_cast<std::int64_t>(std::floor(steps > -kMost ? std::min(steps, kMost) : -kMost));
    }
};

/// Unlike std::max_element, this needs no position and is vectorised.
template <class T>
T largest(const T* values, std::size_t count) {
    T most = values[0];
    for (std::size_t i = 1; i < count; ++i) most = values[i] > most ? values[i] : most;
    return most;
}

/// The number of rows in a screen. Its rows are examined one by one only if the best of them matters.
std::size_t screen_rows(std::size_t rows) { return rows < 16384 ? 16 : 64; }

}  // namespace

/// The products of all upper planes, and the best product of each screen.
Cascade::UpperProducts Cascade::upper_products(const EncodedQuery& query) {
    UpperProducts upper{screen_rows(rows_.count), std::vector<std::int32_t>(rows_.count), {}};
    upper.best.reserve(rows_.count / upper.screen + 1);
    for (std::size_t row = 0; row < rows_.count;) {
        const std::size_t run = std::min(rows_.high.run_length(row, rows_.count), kScanRows);
        const std::uint8_t* const planes = rows_.high.at(row);
        if (file_ != nullptr) file_->need(planes, run * rows_.layout.plane_bytes());
        std::int32_t* const products = upper.products.data() + row;
        kernels_.plane_scan(query.code.data(), planes, run, rows_.layout.plane_bytes(), products);
        for (std::size_t first = 0; first < run; first += upper.screen) {
            upper.best.push_back(largest(products + first, std::min(upper.screen, run - first)));
        }
        row += run;
    }
    effort_.compared += rows_.count;
    return upper;
}

/// The `wanted` rows with the largest products, or all that are not removed.
std::vector<std::uint32_t> Cascade::promising_rows(const UpperProducts& upper, std::size_t wanted) const {
    // The `wanted` best screens hold at least `wanted` rows that reach `least`. Skip the other screens.
    std::int32_t least = std::numeric_limits<std::int32_t>::min();
    if (upper.best.size() > wanted && rows_.removed_count == 0) {
        std::vector<std::int32_t> best(upper.best);
        const auto last = best.begin() + static_cast<std::ptrdiff_t>(wanted - 1);
        std::nth_element(best.begin(), last, best.end(), std::greater<>());
        least = *last;
    }
    std::vector<Candidate> candidates;
    for (std::size_t i = 0; i < upper.best.size(); ++i) {
        if (upper.best[i] < least) continue;
        const std::size_t end = std::min((i + 1) * upper.screen, rows_.count);
        for (std::size_t row = i * upper.screen; row < end; ++row) {
            if (upper.products[row] >= least && !rows_.is_removed(row)) {
                candidates.push_back({upper.products[row], static_cast<std::uint32_t>(row)});
            }
        }
    }
    const std::size_t kept = std::min(wanted, candidates.size());
    std::nth_element(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(kept), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.product > b.product; });
    candidates.resize(kept);
    return rows_of(candidates);
}

/// The rows whose similarity may be `floor` or more, in order.
///
/// The error of a product of codes: |q.x - q'.x'| <= |q'| |x - x'| + |q - q'| |x| for a query q, a row x without the
/// middle, and their codes q' and x'.
std::vector<std::uint32_t> Cascade::rows_that_may_reach(double floor, const EncodedQuery& query,
                                                        const UpperProducts& upper) {
    const double unit = encoder_.similarity_unit();
    const double reach = query.code_length * encoder_.centre().spread;
    const double missing = floor - query.middle - query.code_error * rows_.farthest - encoder_.rounding();
    const Limit by_upper =
        Limit::of(missing - (7.5 - 128) * query.code_sum * unit, reach * CodeBounds::kHighUnit, 16 * unit);
    const Limit by_both = Limit::of(missing, reach * CodeBounds::kUnit, unit);

    std::vector<std::uint32_t> rows;
    for (std::size_t first = 0; first < rows_.count; first += upper.screen) {
        const std::size_t count = std::min(rows_.count - first, upper.screen);
        const std::uint8_t* const bounds = rows_.high_bounds.at(first);
        if (file_ != nullptr) file_->need(bounds, count);
        // The best product with the widest bound is an upper bound for every row of the screen.
        if (!by_upper.reached(upper.best[first / upper.screen], largest(bounds, count))) continue;
        for (std::size_t i = 0; i < count; ++i) {
            if (by_upper.reached(upper.products[first + i], bounds[i]) && !rows_.is_removed(first + i)) {
                rows.push_back(static_cast<std::uint32_t>(first + i));
            }
        }
    }
    const std::vector<std::int32_t> low = products(query.code.data(), rows_.low, rows);
    std::size_t left = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::uint8_t* const bound = rows_.bounds.at(rows[i]);
        if (file_ != nullptr) file_->need(bound, 1);
        const std::int32_t whole = 16 * upper.products[rows[i]] + low[i] - 128 * query.code_sum;
        if (by_both.reached(whole, *bound)) rows[left++] = rows[i];
    }
    rows.resize(left);
    return rows;
}

Nearest Cascade::scan(const EncodedQuery& query, std::size_t k) {
    effort_.method = Method::scan;
    if (k == 0 || live() == 0) return {};
    const UpperProducts upper = upper_products(query);
    // The k-th best score of any k rows is a floor: a row that cannot reach it is no answer.
    const std::vector<std::uint32_t> promising = promising_rows(upper, std::max(k, kPromising));
    const Nearest sure = best_of(query, promising, k);
    std::vector<std::uint32_t> rows = rows_that_may_reach(sure.back().first, query, upper);
    // Wrong bounds in a crafted file may have excluded even these.
    for (const auto& [similarity, row] : sure) {
        if (!std::binary_search(rows.begin(), rows.end(), row))
            rows.insert(std::lower_bound(rows.begin(), rows.end(), row), row);
    }
    return best_of(query, rows, k);
}

}  // namespace vpr
