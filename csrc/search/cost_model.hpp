#pragma once

#include <cstddef>

#include "kernels/kernels.hpp"
#include "rows/layout.hpp"

namespace vpr {

/// A method of searching an index; see Cascade.
enum class Method { choose, scan, sketch, graph };

/// What reading costs on one machine, in nanoseconds, when the map lies in the outer caches: there the methods take
/// similar time. The defaults were measured on a server with Zen 4.
struct Costs {
    double scan_byte = 0.022;    ///< a byte of upper planes, read in order
    double sketch_byte = 0.022;  ///< a byte of sketches
    double gather_line = 2.5;    ///< a cache line of rows in random order, several at a time

    /// Measure the costs on this machine, in about 10 ms.
    static Costs measure(const Kernels& kernels);
};

/// The method that is expected to be the fastest.
///
/// @param rows       in the index.
/// @param has_graph  whether a walk is possible.
/// @param kept       rows that a walk would keep.
Method cheapest(const Costs& costs, const Layout& layout, std::size_t rows, bool has_graph, std::size_t kept);

}  // namespace vpr
