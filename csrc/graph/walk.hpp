#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/graph.hpp"
#include "kernels/kernels.hpp"
#include "memory/mapped_file.hpp"
#include "rows/rows.hpp"

namespace vpr {

/// The best rows met on a walk, in order. A row is marked once its neighbours were compared.
///
/// One number holds a row's product (larger is better), the row (the earlier of equals is better) and the mark.
class Pool {
   public:
    explicit Pool(std::size_t capacity) : capacity_(capacity) { entries_.reserve(capacity + 1); }

    std::size_t size() const noexcept { return entries_.size(); }
    std::uint32_t row(std::size_t i) const noexcept { return ~static_cast<std::uint32_t>(entries_[i] >> 1) & kRowMask; }
    std::int32_t product(std::size_t i) const noexcept {
        return static_cast<std::int32_t>(static_cast<std::uint32_t>(entries_[i] >> 32) ^ kSign);
    }

    /// @return whether the row is among the best so far.
    bool offer(std::int32_t product, std::uint32_t row) {
        const std::uint64_t entry =
            (std::uint64_t{static_cast<std::uint32_t>(product) ^ kSign} << 32) | (std::uint64_t{~row & kRowMask} << 1);
        if (entries_.size() == capacity_) {
            if (entry <= entries_.back()) return false;
            entries_.pop_back();
        }
        // From the end: most new rows belong in the worse half.
        std::size_t at = entries_.size();
        entries_.push_back(entry);
        for (; at > 0 && entries_[at - 1] < entry; --at) entries_[at] = entries_[at - 1];
        entries_[at] = entry;
        next_ = std::min(next_, at);
        return true;
    }

    /// Marks the best row without a mark and returns it; kNone if there is none.
    std::uint32_t next() noexcept {
        while (next_ < entries_.size() && (entries_[next_] & 1U) != 0) ++next_;
        if (next_ == entries_.size()) return Graph::kNone;
        entries_[next_] |= 1U;
        return row(next_);
    }

   private:
    static constexpr std::uint32_t kSign = 0x80000000;
    static constexpr std::uint32_t kRowMask = 0x7FFFFFFF;

    std::size_t capacity_;
    std::size_t next_ = 0;
    std::vector<std::uint64_t> entries_;
};

/// The set of rows met on a walk. Its size depends on the walk, not on the graph, so it stays in a near cache.
class Visited {
   public:
    explicit Visited(std::size_t expected) {
        std::size_t slots = 1024;
        while (slots < 2 * expected) slots *= 2;
        slots_.assign(slots, Graph::kNone);
    }

    /// @return whether the row was new.
    bool insert(std::uint32_t row) {
        if (2 * count_ >= slots_.size()) grow();
        std::size_t slot = slot_of(row);
        for (; slots_[slot] != Graph::kNone; slot = (slot + 1) & (slots_.size() - 1)) {
            if (slots_[slot] == row) return false;
        }
        slots_[slot] = row;
        ++count_;
        return true;
    }

    std::size_t count() const noexcept { return count_; }

   private:
    std::size_t slot_of(std::uint32_t row) const noexcept {
        return (row * 0x9E3779B1U) >> 7 & (slots_.size() - 1);  // Fibonacci hashing, Knuth vol. 3, 6.4
    }

    void grow() {
        std::vector<std::uint32_t> before(2 * slots_.size(), Graph::kNone);
        before.swap(slots_);
        count_ = 0;
        for (const std::uint32_t row : before) {
            if (row != Graph::kNone) insert(row);
        }
    }

    std::size_t count_ = 0;
    std::vector<std::uint32_t> slots_;
};

/// Compares rows with one query code by their upper planes.
class Comparer {
   public:
    static constexpr std::size_t kMost = 256;  // rows at a time

    /// @param file   null, or the file that holds the rows; its blocks are checked before use.
    /// @param norms  null if `code` is a query's. If it is a row's: the product of each row's code with itself. The
    ///               nearest rows then have the largest product minus half their norm.
    Comparer(const Rows& rows, const Kernels& kernels, const MappedFile* file, const std::int8_t* code,
             const std::int32_t* norms = nullptr)
        : rows_(rows),
          kernels_(kernels),
          file_(file),
          code_(code),
          norms_(norms),
          plane_bytes_(rows.layout.plane_bytes()) {}

    /// Half a norm, in units of a product of upper planes.
    static std::int32_t half_norm(std::int32_t norm) noexcept { return norm / 32; }

    void prefetch(std::uint32_t row) const noexcept {
        const std::uint8_t* const plane = rows_.high.at(row);
        for (std::size_t at = 0; at < plane_bytes_; at += kCacheLine) __builtin_prefetch(plane + at);
    }

    /// The products of up to kMost rows.
    void compare(const std::uint32_t* rows, std::size_t count, std::int32_t* products) {
        std::array<const std::uint8_t*, kMost> planes;
        for (std::size_t i = 0; i < count; ++i) {
            planes[i] = rows_.high.at(rows[i]);
            if (file_ != nullptr) file_->need(planes[i], plane_bytes_);
        }
        kernels_.plane_products(code_, planes.data(), count, plane_bytes_, products);
        if (norms_ != nullptr) {
            for (std::size_t i = 0; i < count; ++i) products[i] -= half_norm(norms_[rows[i]]);
        }
        compared_ += count;
    }

    std::size_t compared() const noexcept { return compared_; }

   private:
    const Rows& rows_;
    const Kernels& kernels_;
    const MappedFile* file_;
    const std::int8_t* code_;
    const std::int32_t* norms_;
    std::size_t plane_bytes_;
    std::size_t compared_ = 0;
};

/// Neighbours of a node: `count` numbers, or fewer if kNone comes first.
struct Neighbours {
    const std::uint32_t* first;
    std::size_t count;
};

/// Best-first search on one level, from the rows in the pool. It compares the neighbours of the best row without a mark
/// and keeps the best of them, until all rows in the pool are marked.
///
/// @param neighbours_of  row -> Neighbours.
template <class NeighboursOf>
void walk_level(const NeighboursOf& neighbours_of, Comparer& comparer, Pool& pool, Visited& visited) {
    std::array<std::uint32_t, Comparer::kMost> fresh;
    std::array<std::int32_t, Comparer::kMost> products;
    for (std::uint32_t row = pool.next(); row != Graph::kNone; row = pool.next()) {
        const Neighbours neighbours = neighbours_of(row);
        std::size_t count = 0;
        // Prefetch all rows before comparing the first, so that their memory accesses overlap.
        for (std::size_t i = 0; i < neighbours.count && neighbours.first[i] != Graph::kNone; ++i) {
            const std::uint32_t neighbour = neighbours.first[i];
            if (!visited.insert(neighbour)) continue;
            comparer.prefetch(neighbour);
            fresh[count++] = neighbour;
        }
        comparer.compare(fresh.data(), count, products.data());
        for (std::size_t i = 0; i < count; ++i) {
            // The neighbours of a row that enters the pool will probably be compared soon.
            if (pool.offer(products[i], fresh[i])) __builtin_prefetch(neighbours_of(fresh[i]).first);
        }
    }
}

/// Greedy descent on one level: go to the best neighbour until none is better.
///
/// @param neighbours_of  node -> Neighbours, as nodes.
/// @param row_of         node -> row.
/// @param node           in: where to start; out: where the descent ended.
/// @param product        the product of the row of `node`, in and out.
template <class NeighboursOf, class RowOf>
void descend_level(const NeighboursOf& neighbours_of, const RowOf& row_of, Comparer& comparer, std::uint32_t& node,
                   std::int32_t& product) {
    std::array<std::uint32_t, Comparer::kMost> rows;
    std::array<std::int32_t, Comparer::kMost> products;
    for (bool moved = true; moved;) {
        moved = false;
        const Neighbours neighbours = neighbours_of(node);
        std::size_t count = 0;
        for (; count < neighbours.count && neighbours.first[count] != Graph::kNone; ++count) {
            rows[count] = row_of(neighbours.first[count]);
            comparer.prefetch(rows[count]);
        }
        comparer.compare(rows.data(), count, products.data());
        for (std::size_t i = 0; i < count; ++i) {
            if (products[i] <= product) continue;
            product = products[i];
            node = neighbours.first[i];
            moved = true;
        }
    }
}

/// Walk a graph: descend from its entry, then search level 0 from there and from the seeds.
///
/// @param seeds    additional rows to start from.
/// @param descend  whether to start from the graph's entry. Without seeds the walk always does.
void walk(const Graph& graph, Comparer& comparer, const std::vector<std::uint32_t>& seeds, bool descend, Pool& pool);

}  // namespace vpr
