#include "search/cascade.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "graph/walk.hpp"
#include "search/sketch.hpp"

namespace vpr {
namespace {

// Rows that sketches select: 768 with sketches of 256 bits, fewer with longer ones. Among 100,000 places under harsh
// change these include the nearest place for 99.3 % of queries of 512 dimensions, and 98.5 % of the ten nearest
// (benchmarks/search.py).
constexpr std::size_t kSketchCandidateBits = 768 * 256;
constexpr std::size_t kSketchCandidatesPerK = 16;

// The errors of codes are about normal. Candidates within this many standard deviations of the k-th best are scored.
constexpr double kDeviations = 3.0;

constexpr std::size_t kFewMore = 16;  // scoring so few more candidates is faster than excluding them

}  // namespace

std::size_t kept_on_walk(const Rows& rows, std::size_t k, std::size_t ef) noexcept {
    const std::size_t kept = std::min(std::max(ef, k), rows.count);
    if (rows.removed_count == 0) return kept;
    // A walk passes through removed rows but does not return them: make room for both.
    return std::min(rows.count, kept * rows.count / std::max<std::size_t>(rows.count - rows.removed_count, 1));
}

float Cascade::score(const EncodedQuery& query, std::uint32_t row) {
    const std::uint8_t* const values = rows_.values.at(row);
    if (file_ != nullptr) file_->need(values, rows_.layout.value_bytes());
    return rows_.layout.precision == Precision::float32
               ? kernels_.dot_f32(query.values.data(), reinterpret_cast<const float*>(values),
                                  rows_.layout.value_count())
               : kernels_.dot_f16(query.values.data(), reinterpret_cast<const std::uint16_t*>(values),
                                  rows_.layout.value_count());
}

std::vector<std::int32_t> Cascade::products(const std::int8_t* code, const Column& planes,
                                            const std::vector<std::uint32_t>& rows) {
    std::vector<const std::uint8_t*> from(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        from[i] = planes.at(rows[i]);
        if (file_ != nullptr) file_->need(from[i], planes.record_bytes());
        __builtin_prefetch(from[i]);  // the processor prefetches the rest of the row
    }
    std::vector<std::int32_t> result(rows.size());
    kernels_.plane_products(code, from.data(), from.size(), planes.record_bytes(), result.data());
    return result;
}

std::vector<std::int32_t> Cascade::whole_products(const std::int8_t* code, std::int32_t code_sum,
                                                  const std::vector<std::uint32_t>& rows) {
    std::vector<std::int32_t> result = products(code, rows_.high, rows);
    const std::vector<std::int32_t> low = products(code, rows_.low, rows);
    for (std::size_t i = 0; i < rows.size(); ++i) result[i] = 16 * result[i] + low[i] - 128 * code_sum;
    return result;
}

/// Scores rows, none of them removed, and returns the k best.
Nearest Cascade::best_of(const EncodedQuery& query, const std::vector<std::uint32_t>& rows, std::size_t k) {
    Nearest found;
    found.reserve(rows.size());
    if (rows_.layout.precision == Precision::int8) {
        // The row has only its code. The query also has the fraction that its own rounding left.
        const std::vector<std::int32_t> whole = whole_products(query.code.data(), query.code_sum, rows);
        const std::vector<std::int32_t> fraction = whole_products(query.fraction.data(), query.fraction_sum, rows);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const double steps = whole[i] + fraction[i] / 256.0;
            found.emplace_back(static_cast<float>(steps * encoder_.similarity_unit() + query.middle), rows[i]);
        }
    } else {
        for (const std::uint32_t row : rows) {
            const std::uint8_t* const values = rows_.values.at(row);
            for (std::size_t at = 0; at < rows_.layout.value_bytes(); at += kCacheLine) __builtin_prefetch(values + at);
        }
        for (const std::uint32_t row : rows) found.emplace_back(score(query, row), row);
    }
    // A crafted file may hold NaN, which cannot be sorted.
    for (auto& [similarity, row] : found) similarity = similarity > -2.0F ? similarity : -2.0F;
    effort_.scored += rows.size();
    const auto better = [this](const Nearest::value_type& a, const Nearest::value_type& b) {
        return a.first > b.first || (a.first == b.first && rows_.id(a.second) < rows_.id(b.second));
    };
    const std::size_t kept = std::min(k, found.size());
    std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(kept), found.end(), better);
    found.resize(kept);
    return found;
}

/// Drop candidates whose product is so far below the k-th best that they cannot be among the k best.
void Cascade::keep_contenders(std::vector<Candidate>& candidates, std::size_t k, double error) {
    if (candidates.size() <= k) return;
    std::vector<std::int32_t> best;  // a heap with the least on top
    best.reserve(k);
    for (const Candidate& candidate : candidates) {
        if (best.size() == k) {
            if (candidate.product <= best.front()) continue;
            std::pop_heap(best.begin(), best.end(), std::greater<>());
            best.pop_back();
        }
        best.push_back(candidate.product);
        std::push_heap(best.begin(), best.end(), std::greater<>());
    }
    const double least = best.front() - kDeviations * std::sqrt(2.0) * error;
    candidates.erase(
        std::remove_if(candidates.begin(), candidates.end(), [least](const Candidate& c) { return c.product < least; }),
        candidates.end());
}

/// Score the candidates that codes cannot tell from the k best. Their products are of upper planes.
Nearest Cascade::narrow(const EncodedQuery& query, std::vector<Candidate> candidates, std::size_t k) {
    keep_contenders(candidates, k, encoder_.product_error());
    std::vector<std::uint32_t> rows = rows_of(candidates);
    if (rows.size() > k + kFewMore) {
        // Lower planes take a quarter of the memory of descriptors. With them, both codes have a rounding error.
        const std::vector<std::int32_t> low = products(query.code.data(), rows_.low, rows);
        for (std::size_t i = 0; i < rows.size(); ++i) candidates[i].product = 16 * candidates[i].product + low[i];
        keep_contenders(candidates, k, std::sqrt(2.0) * encoder_.product_error());
        rows = rows_of(candidates);
    }
    return best_of(query, rows, k);
}

std::vector<std::uint32_t> Cascade::rows_of(const std::vector<Candidate>& candidates) {
    std::vector<std::uint32_t> rows;
    rows.reserve(candidates.size());
    for (const Candidate& candidate : candidates) rows.push_back(candidate.row);
    return rows;
}

Nearest Cascade::by_sketch(const EncodedQuery& query, std::size_t k) {
    if (rows_.layout.sketch_groups() == 0) return scan(query, k);
    effort_.method = Method::sketch;
    std::size_t wanted = std::max(kSketchCandidateBits / (4 * rows_.layout.sketch_groups()),
                                  kSketchCandidatesPerK * std::min(k, rows_.count));
    if (rows_.removed_count > 0) wanted = wanted * rows_.count / std::max<std::size_t>(live(), 1);
    if (wanted >= rows_.count) return scan(query, k);
    std::vector<std::uint32_t> promising = scan_sketches(rows_, kernels_, file_, query, wanted);
    effort_.compared += rows_.count;
    promising.erase(
        std::remove_if(promising.begin(), promising.end(), [this](std::uint32_t row) { return rows_.is_removed(row); }),
        promising.end());
    if (promising.size() < std::min(k, live())) return scan(query, k);
    const std::vector<std::int32_t> high = products(query.code.data(), rows_.high, promising);
    std::vector<Candidate> candidates(promising.size());
    for (std::size_t i = 0; i < promising.size(); ++i) candidates[i] = {high[i], promising[i]};
    return narrow(query, std::move(candidates), k);
}

Nearest Cascade::by_graph(const EncodedQuery& query, std::size_t k, std::size_t ef,
                          const std::vector<std::uint32_t>& seeds, bool descend) {
    effort_.method = Method::graph;
    Pool pool(kept_on_walk(rows_, k, ef));
    Comparer comparer(rows_, kernels_, file_, query.code.data());
    walk(*graph_, comparer, seeds, descend, pool);
    effort_.compared += comparer.compared();
    std::vector<Candidate> candidates;
    candidates.reserve(pool.size());
    for (std::size_t i = 0; i < pool.size(); ++i) {
        const Candidate candidate{pool.product(i), pool.row(i)};
        if (!rows_.is_removed(candidate.row)) candidates.push_back(candidate);
        if (graph_->twins.empty()) continue;
        const auto twins = graph_->twins.find(candidate.row);
        if (twins == graph_->twins.end()) continue;
        for (const std::uint32_t twin : twins->second) {
            if (!rows_.is_removed(twin)) candidates.push_back({candidate.product, twin});
        }
    }
    // The walk found too few, for example after many removals.
    if (candidates.size() < std::min(k, live())) return scan(query, k);
    return narrow(query, std::move(candidates), k);
}

}  // namespace vpr
