#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "graph/graph.hpp"
#include "kernels/kernels.hpp"
#include "rows/rows.hpp"

namespace vpr {

/// Inserts rows into an HNSW graph, one by one. The only user of hnswlib.
///
/// Our own walk over upper planes finds candidates for a row's neighbours. hnswlib chooses among them by whole codes,
/// and links them in its own lists. Searches read a Graph, a flat copy of these lists, so they need not wait while a
/// row is inserted. They wait only for `publish_last`, which copies the few lists that changed.
class GraphBuilder {
   public:
    /// @param rows  must outlive this; see `recode`.
    GraphBuilder(const Rows& rows, const Kernels& kernels, std::size_t m, std::size_t ef_construction);
    /// Continue a graph that was published or read from a file.
    GraphBuilder(const Rows& rows, const Kernels& kernels, const Graph& graph);
    ~GraphBuilder();

    /// The number of inserted rows.
    std::size_t size() const noexcept;

    /// Call after the rows were encoded again. Their links stay.
    void recode();

    /// Insert the row after the last one. If it throws, the builder can only be destroyed.
    void insert_next();

    /// A graph of all inserted rows.
    std::unique_ptr<Graph> to_graph() const;

    /// Add the last inserted row to a graph that has all others. The graph's memory must have been grown before, see
    /// `Graph::links`. No search may run meanwhile.
    void publish_last(Graph& graph) const;

   private:
    struct Hnswlib;
    const Rows& rows_;
    const Kernels& kernels_;
    std::unique_ptr<Hnswlib> hnswlib_;
};

}  // namespace vpr
