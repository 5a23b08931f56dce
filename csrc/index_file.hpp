#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "rows.hpp"

namespace vpr {

/// The index file, version 1. Little-endian; header of 192 bytes, then six sections without gaps:
///
///     0 char[8] "VPRINDEX"   8 u32 version    12 u32 dim          16 u64 rows       24 u64 bytes of the file
///    32 u8[32] contract     64 u8[32] state   96 u32 m (0: no graph)               100 u32 ef_construction
///   104 i32 max_level      108 u32 entry_row 112 u64 words of section 6
///   120 u32[6] CRC-32C of each section       144 zeros           188 u32 CRC-32C of bytes 0 to 187
///
///   1 i64[rows] ids   2 u8[rows] removed   3 f32[rows][dim] descriptors, and with a graph
///   4 u8[rows] levels   5 u32[rows][2m+1] links of level 0   6 u32[][m+1] links of levels 1.., row by row
///
/// A list of links is its length, that many rows, and zeros. A graph has m 2 to 128 and ef_construction m to 4096;
/// one without rows has max_level -1 and entry_row 4294967295. A reader believes nothing that it has not checked:
/// sizes against the file, sections against their checksums, levels and links against their ranges.
constexpr std::uint32_t kIndexFileVersion = 1;

using Fingerprint = std::array<std::uint8_t, 32>;

/// An index file cannot be used; the message says what was found and what was expected.
class IndexFileError : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
};

/// An HNSW graph as plain numbers, neighbours named by row.
struct GraphImage {
    std::uint32_t m = 0;  ///< 0: no graph
    std::uint32_t ef_construction = 0;
    std::int32_t max_level = -1;
    std::uint32_t entry_row = 0;
    std::vector<std::uint8_t> levels;
    std::vector<std::uint32_t> level0_links;
    std::vector<std::uint32_t> upper_links;

    std::size_t level0_stride() const noexcept { return 2 * std::size_t{m} + 1; }
    std::size_t upper_stride() const noexcept { return std::size_t{m} + 1; }
};

/// All that an index file holds.
struct IndexImage {
    Rows rows;
    GraphImage graph;
    Fingerprint state{};  ///< identity of the set of places that the index was derived from
};

/// Write an index to a temporary file beside `path`, flush it to the medium, and move it into place.
///
/// @throws IndexFileError  the file cannot be written; what stood at `path` is untouched.
void write_index_file(const std::string& path, const Rows& rows, const GraphImage& graph, const Fingerprint& contract,
                      const Fingerprint& state);

/// Read and check an index file.
///
/// @param dim       expected length of a descriptor.
/// @param contract  expected identity of the model.
/// @throws IndexFileError  missing, short or long, of a future version, damaged, of another dim or model.
IndexImage read_index_file(const std::string& path, std::size_t dim, const Fingerprint& contract);

}  // namespace vpr
