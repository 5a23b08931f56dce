#include "search/sketch.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include "memory/aligned.hpp"

namespace vpr {
namespace {

constexpr int kLargestCode = 127;
constexpr int kLargestSum = 63 * 128;
constexpr std::size_t kSample = 2048;

/// The signs that each value of four bits stands for.
constexpr std::int8_t kSigns[4][16] = {{-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1},
                                       {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1},
                                       {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1},
                                       {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1}};

/// For each group of four dimensions and each choice of signs: the sum of the query's code with these signs, scaled to
/// 0 to 63 as `sketch_sums` requires.
AlignedVector<std::uint8_t> make_tables(const std::int8_t* code, std::size_t groups) {
    AlignedVector<std::uint8_t> tables(16 * groups);
    for (std::size_t group = 0; group < groups; ++group) {
        const std::int8_t* c = code + 4 * group;
        for (std::size_t i = 0; i < 16; ++i) {
            const int sum = c[0] * kSigns[0][i] + c[1] * kSigns[1][i] + c[2] * kSigns[2][i] + c[3] * kSigns[3][i];
            tables[16 * group + i] = static_cast<std::uint8_t>((sum + 4 * kLargestCode) >> 4);
        }
    }
    return tables;
}

/// A threshold with `least` to `most` sums above it; with more if equal sums leave no choice.
///
/// @param probe  where to begin.
int find_threshold(const Kernels& kernels, const AlignedVector<std::uint16_t>& sums, std::size_t least,
                   std::size_t most, int probe) {
    int low = 0;             // enough are above it
    int high = kLargestSum;  // too few are
    for (int step = 8; high - low > 1; step *= 2) {
        const std::size_t above = kernels.count_above(sums.data(), sums.size(), static_cast<std::uint16_t>(probe));
        if (above >= least && above <= most) return probe;
        // Move a few steps, but no farther than halfway.
        if (above < least) {
            high = probe;
            probe = std::max(probe - step, low + (high - low) / 2);
        } else {
            low = probe;
            probe = std::min(probe + step, low + (high - low) / 2);
        }
    }
    return low;
}

/// A threshold with `wanted` to 1.5 `wanted` sums above it.
std::uint16_t threshold_for(const Kernels& kernels, const AlignedVector<std::uint16_t>& sums, std::size_t wanted) {
    // A sample gives a first guess; counting all sums takes much longer.
    const std::size_t stride = sums.size() / kSample;
    int guess = kLargestSum / 2;
    if (stride > 1) {
        AlignedVector<std::uint16_t> sample(kSample);
        for (std::size_t i = 0; i < kSample; ++i) sample[i] = sums[i * stride];
        guess = find_threshold(kernels, sample, wanted / stride, wanted * 5 / 4 / stride + 1, guess);
    }
    return static_cast<std::uint16_t>(find_threshold(kernels, sums, wanted, wanted + wanted / 2, guess));
}

}  // namespace

std::vector<std::uint32_t> scan_sketches(const Rows& rows, const Kernels& kernels, const MappedFile* file,
                                         const EncodedQuery& query, std::size_t wanted) {
    const std::size_t groups = rows.layout.sketch_groups();
    const AlignedVector<std::uint8_t> tables = make_tables(query.sketch.data(), groups);
    const std::size_t blocks = rows.sketch_blocks();
    const std::size_t count = blocks * Layout::kBlockRows;
    AlignedVector<std::uint16_t> sums(count);
    for (std::size_t block = 0; block < blocks;) {
        const std::size_t run = rows.sketches.run_length(block, blocks);
        const std::uint8_t* const from = rows.sketches.at(block);
        if (file != nullptr) file->need(from, run * rows.layout.sketch_block_bytes());
        kernels.sketch_sums(tables.data(), groups, from, run, sums.data() + block * Layout::kBlockRows);
        block += run;
    }
    // The last block is padded with rows that do not exist.
    std::fill(sums.begin() + static_cast<std::ptrdiff_t>(rows.count), sums.end(), std::uint16_t{0});
    const std::uint16_t threshold = threshold_for(kernels, sums, wanted);
    std::vector<std::uint32_t> positions(kernels.count_above(sums.data(), count, threshold) + 1);
    positions.resize(kernels.above(sums.data(), count, threshold, positions.data()));
    return positions;
}

}  // namespace vpr
