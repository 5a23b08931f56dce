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

/// How a search was done, and how much it read.
struct Effort {
    Method method = Method::scan;  ///< the method that gave the answer
    std::size_t compared = 0;      ///< rows whose code or sketch was read
    std::size_t scored = 0;        ///< rows whose stored descriptor was read
};

/// The number of rows that a walk must keep so that about max(ef, k) are left after removed rows are dropped.
std::size_t kept_on_walk(const Rows& rows, std::size_t k, std::size_t ef) noexcept;

/// The three ways through an index. Each narrows many rows down by cheap comparisons and scores the rest with their
/// stored descriptors. Each returns the min(k, live rows) best of the rows it found, best first, ties by place id.
///
/// A cascade reads an index as it stands: the caller keeps writers away while it is in use.
class Cascade {
   public:
    /// @param file  the file that holds the rows, if it has unchecked blocks; else null.
    Cascade(const Rows& rows, const Graph* graph, const Encoder& encoder, const Kernels& kernels,
            const MappedFile* file)
        : rows_(rows), graph_(graph), encoder_(encoder), kernels_(kernels), file_(file) {}

    /// The k most similar rows, provably, as scored. Upper planes bound the similarity of every row. Lower planes bound
    /// it closer for the rows that are left. Every row that the bounds cannot exclude is scored.
    Nearest scan(const EncodedQuery& query, std::size_t k);

    /// Compares all sketches, then the codes of the best rows, then scores the best of these.
    Nearest by_sketch(const EncodedQuery& query, std::size_t k);

    /// Walks the graph, then scores the best rows that it met.
    ///
    /// @param ef       rows that the walk keeps, at least k.
    /// @param seeds    additional rows to start from.
    /// @param descend  whether to start from the graph's entry.
    Nearest by_graph(const EncodedQuery& query, std::size_t k, std::size_t ef,
                     const std::vector<std::uint32_t>& seeds = {}, bool descend = true);

    /// Search by the given method. Only the graph uses `ef`.
    Nearest by(Method method, const EncodedQuery& query, std::size_t k, std::size_t ef) {
        if (method == Method::graph) return by_graph(query, k, ef);
        return method == Method::sketch ? by_sketch(query, k) : scan(query, k);
    }

    const Effort& effort() const noexcept { return effort_; }

   private:
    struct Candidate {
        std::int32_t product;  // of codes; larger is nearer
        std::uint32_t row;
    };

    /// The products of all upper planes, and the best product of each screen of rows.
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
