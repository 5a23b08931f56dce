#include "search/cost_model.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <vector>

#include "memory/aligned.hpp"

namespace vpr {
namespace {

constexpr std::size_t kPlaneBytes = 256;  // of 512 dimensions
constexpr std::size_t kRows = 16384;      // 4 MB of planes
constexpr std::size_t kSketchGroups = 64;
constexpr std::size_t kSketchBlocks = 2048;  // 2 MB
constexpr std::size_t kGathered = 32;        // rows at a time, as on a walk
constexpr std::size_t kGathers = 256;

/// The shortest of four runs, in nanoseconds: without other load, and with the memory mapped.
template <class Work>
double nanoseconds(const Work& work) {
    double least = 1e12;
    for (int run = 0; run < 4; ++run) {
        const auto start = std::chrono::steady_clock::now();
        work();
        const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
        least = std::min(least, took.count());
    }
    return least;
}

}  // namespace

Costs Costs::measure(const Kernels& kernels) {
    AlignedVector<std::uint8_t> planes(kRows * kPlaneBytes, std::uint8_t{0x35});
    AlignedVector<std::int8_t> code(2 * kPlaneBytes, std::int8_t{3});
    std::vector<std::int32_t> products(kRows);
    Costs costs;
    costs.scan_byte =
        nanoseconds([&] { kernels.plane_scan(code.data(), planes.data(), kRows, kPlaneBytes, products.data()); }) /
        static_cast<double>(kRows * kPlaneBytes);

    AlignedVector<std::uint8_t> tables(16 * kSketchGroups, std::uint8_t{7});
    AlignedVector<std::uint16_t> sums(32 * kSketchBlocks);
    costs.sketch_byte =
        nanoseconds(
            [&] { kernels.sketch_sums(tables.data(), kSketchGroups, planes.data(), kSketchBlocks, sums.data()); }) /
        static_cast<double>(16 * kSketchGroups * kSketchBlocks);

    std::uint32_t row = 0;
    costs.gather_line = nanoseconds([&] {
                            for (std::size_t gather = 0; gather < kGathers; ++gather) {
                                const std::uint8_t* from[kGathered];
                                for (const std::uint8_t*& plane : from) {
                                    row = (row * 1664525U + 1013904223U) % kRows;  // Knuth vol. 2, 3.3.4
                                    plane = planes.data() + row * kPlaneBytes;
                                    for (std::size_t at = 0; at < kPlaneBytes; at += kCacheLine) {
                                        __builtin_prefetch(plane + at);
                                    }
                                }
                                kernels.plane_products(code.data(), from, kGathered, kPlaneBytes, products.data());
                            }
                        }) /
                        static_cast<double>(kGathers * kGathered * kPlaneBytes / kCacheLine);
    return costs;
}

Method cheapest(const Costs& costs, const Layout& layout, std::size_t rows, bool has_graph, std::size_t kept) {
    const auto count = static_cast<double>(rows);
    const double plane_lines = static_cast<double>(layout.plane_bytes()) / kCacheLine;
    const double bytes_a_row = static_cast<double>(layout.plane_bytes());
    // A scan reads every upper plane and bounds every row. The bounds cost about as much as 100 more bytes.
    const double scan = count * (bytes_a_row + 100) * costs.scan_byte;
    // A sketch search reads all sketches, passes over their sums a few times, and reads the upper planes of about 1,000
    // rows.
    const double sketch_bytes = static_cast<double>(layout.sketch_block_bytes()) / Layout::kBlockRows;
    const double sketch = count * (sketch_bytes + 10) * costs.sketch_byte + 1000 * plane_lines * costs.gather_line;
    // A walk compares about 12 rows for each that it keeps and for each halving of the map. The factor 2 is for the
    // links.
    const auto keeps = static_cast<double>(kept);
    const double compared = 12 * (keeps + std::log2(count + 1));
    // Each row that enters the pool moves half of the rows in it.
    const double walk = compared * (2 * plane_lines * costs.gather_line + keeps / 32);
    Method best = Method::scan;
    double least = scan;
    if (layout.sketch_groups() > 0 && sketch < least) {
        best = Method::sketch;
        least = sketch;
    }
    if (has_graph && walk < least) best = Method::graph;
    return best;
}

}  // namespace vpr
