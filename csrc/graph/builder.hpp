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
/// A row's neighbours-to-be are found by our own walk, with the upper planes; hnswlib chooses among them and links
/// them, with whole codes, in lists of its own. Searches read a Graph, a flat copy of these lists, so they need not
/// wait while a row is inserted: only `publish`, which copies the few lists that changed, must keep them away.
class GraphBuilder {
   public:
    /// @param rows  must outlive this; see `recode`.
    GraphBuilder(const Rows& rows, const Kernels& kernels, std::size_t m, std::size_t ef_construction);
    /// Continue a graph that was published or read from a file.
    GraphBuilder(const Rows& rows, const Kernels& kernels, const Graph& graph);
    ~GraphBuilder();

    /// Rows that were inserted.
    std::size_t size() const noexcept;

    /// Told that the rows were encoded anew. Their links stay.
    void recode();

    /// Insert the row after the last one. What it throws leaves a builder that can only be destroyed.
    void insert_next();

    /// A graph of all that was inserted.
    std::unique_ptr<Graph> to_graph() const;

    /// Bring a graph that has every row but the last up to date. The graph's memory must have been grown before, see
    /// `Graph::links`. Searches must wait meanwhile.
    void publish_last(Graph& graph) const;

   private:
    struct Hnswlib;
    const Rows& rows_;
    const Kernels& kernels_;
    std::unique_ptr<Hnswlib> hnswlib_;
};

}  // namespace vpr
