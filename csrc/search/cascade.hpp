#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/graph.hpp"
#include "kernels/kernels.hpp"
#include "memory/mapped_file.hpp"
#include "rows/encoder.hpp"
#include "rows/rows.hpp"
#include "search/cost_model.hpp"

namespace vpr {

/// What a search did.
struct Effort {
    Method method = Method::scan;  ///< the way that led to the answer
    std::size_t compared = 0;      ///< rows of which a code or a sketch was looked at
    std::size_t scored = 0;        ///< rows of which the stored descriptor was looked at
};

/// Rows that a walk must keep, to end with as many that are not removed as one that keeps `ef` would without removals.
std::size_t kept_on_walk(const Rows& rows, std::size_t k, std::size_t ef) noexcept;

/// The three ways through an index. Each narrows many rows down by something cheap, and scores what is left by the
/// stored descriptors. They return the min(k, live rows) best of what they found: (similarity, row), best first, ties
/// by place id.
///
/// Looks at an index as it stands: whoever makes one keeps writers away for as long.
class Cascade {
   public:
    /// @param file  where the rows lie if in a file that has unchecked blocks; else null.
    Cascade(const Rows& rows, const Graph* graph, const Encoder& encoder, const Kernels& kernels,
            const MappedFile* file)
        : rows_(rows), graph_(graph), encoder_(encoder), kernels_(kernels), file_(file) {}

    /// Provably the k rows of the largest similarity, as scored: the upper planes of all rows bound what they can
    /// reach, the lower planes of those left bound it closer, and whatever the bounds cannot exclude is scored.
    Nearest scan(const EncodedQuery& query, std::size_t k);

    /// All sketches, then the codes of the best, then the descriptors of the best of these.
    Nearest by_sketch(const EncodedQuery& query, std::size_t k);

    /// A walk through the graph, then the descriptors of the best it met.
    ///
    /// @param ef       rows that the walk keeps, at least k.
    /// @param seeds    rows to start from.
    /// @param descend  whether to start from the graph's entry as well.
    Nearest by_graph(const EncodedQuery& query, std::size_t k, std::size_t ef,
                     const std::vector<std::uint32_t>& seeds = {}, bool descend = true);

    /// By one of these ways; `ef` is the graph's.
    Nearest by(Method method, const EncodedQuery& query, std::size_t k, std::size_t ef) {
        if (method == Method::graph) return by_graph(query, k, ef);
        return method == Method::sketch ? by_sketch(query, k) : scan(query, k);
    }

    const Effort& effort() const noexcept { return effort_; }

   private:
    struct Candidate {
        std::int32_t product;  // of codes, the larger the nearer
        std::uint32_t row;
    };

    /// The products of all upper planes, and the best of each so many rows.
    struct UpperProducts {
        std::size_t screen;
        std::vector<std::int32_t> products;
        std::vector<std::int32_t> best;
    };

    UpperProducts upper_products(const EncodedQuery& query);
    std::vector<std::uint32_t> rows_that_may_reach(double floor, const EncodedQuery& query, const UpperProducts& upper);
    std::size_t live() const noexcept { return rows_.count - rows_.removed_count; }
    float score(const EncodedQuery& query, std::uint32_t row);
    Nearest best_of(const EncodedQuery& query, const std::vector<std::uint32_t>& rows, std::size_t k);
    static void keep_contenders(std::vector<Candidate>& candidates, std::size_t k, double error);
    static std::vector<std::uint32_t> rows_of(const std::vector<Candidate>& candidates);
    Nearest narrow(const EncodedQuery& query, std::vector<Candidate> candidates, std::size_t k);
    std::vector<std::uint32_t> promising_rows(const UpperProducts& upper, std::size_t wanted) const;
    std::vector<std::int32_t> products(const std::int8_t* code, const Column& planes,
                                       const std::vector<std::uint32_t>& rows);
    std::vector<std::int32_t> whole_products(const std::int8_t* code, std::int32_t code_sum,
                                             const std::vector<std::uint32_t>& rows);

    const Rows& rows_;
    const Graph* graph_;
    const Encoder& encoder_;
    const Kernels& kernels_;
    const MappedFile* file_;
    Effort effort_;
};

}  // namespace vpr
