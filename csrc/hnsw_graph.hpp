#pragma once

#include <cstddef>
#include <memory>

#include "index_file.hpp"
#include "rows.hpp"

namespace vpr {

/// An HNSW graph over rows that live elsewhere: it holds links and the address of each row, no descriptor.
///
/// Rows are inserted in their order, by one thread, and nothing may be searched meanwhile. Built by hnswlib, which
/// is fed only what was checked.
///
/// Source: Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
/// Small World graphs (TPAMI 2018).
class HnswGraph {
   public:
    /// @param capacity  rows to make room for; more may be inserted.
    HnswGraph(std::size_t dim, std::size_t capacity, std::size_t m, std::size_t ef_construction);
    ~HnswGraph();

    /// Insert the row after the last one inserted.
    void insert(const Rows& rows, std::size_t row);

    /// The k most similar rows that are not removed; fewer if the graph leads to fewer.
    ///
    /// @param ef  candidates kept on the way, at least k are.
    Nearest search(const float* query, std::size_t k, std::size_t ef, const Rows& rows) const;

    GraphImage to_image() const;

    /// The graph that `to_image` gave. The image must have been checked: see read_index_file.
    static std::unique_ptr<HnswGraph> from_image(const GraphImage& image, const Rows& rows);

   private:
    struct Hnswlib;
    std::unique_ptr<Hnswlib> hnswlib_;
};

}  // namespace vpr
