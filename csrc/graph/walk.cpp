#include "graph/walk.hpp"

namespace vpr {
namespace {

/// The row where a descent through the upper levels ends.
std::uint32_t descend_from_entry(const Graph& graph, Comparer& comparer) {
    if (graph.upper.empty()) return graph.entry;
    const auto row_of = [&graph](std::uint32_t node) { return graph.upper[node].row; };
    std::uint32_t node = graph.entry;
    std::uint32_t row = row_of(node);
    std::int32_t product = 0;
    comparer.compare(&row, 1, &product);
    for (std::size_t level = graph.upper[graph.entry].levels; level > 0; --level) {
        const auto neighbours_of = [&graph, level](std::uint32_t of) {
            return Neighbours{graph.upper_links_of(of, level), graph.m};
        };
        descend_level(neighbours_of, row_of, comparer, node, product);
    }
    return row_of(node);
}

}  // namespace

void walk(const Graph& graph, Comparer& comparer, const std::vector<std::uint32_t>& seeds, bool descend, Pool& pool) {
    if (graph.entry == Graph::kNone) return;
    Visited visited(512);
    std::vector<std::uint32_t> starts(seeds);
    if (descend || starts.empty()) starts.push_back(descend_from_entry(graph, comparer));
    for (const std::uint32_t row : starts) {
        if (!visited.insert(row)) continue;
        std::int32_t product = 0;
        comparer.compare(&row, 1, &product);
        pool.offer(product, row);
    }
    const auto neighbours_of = [&graph, words = graph.link_words()](std::uint32_t row) {
        return Neighbours{graph.links_of(row), words};
    };
    walk_level(neighbours_of, comparer, pool, visited);
}

}  // namespace vpr
