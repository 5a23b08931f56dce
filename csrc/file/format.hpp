#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "graph/graph.hpp"
#include "memory/mapped_file.hpp"
#include "rows/rows.hpp"

namespace vpr {

/// The index file, version 2. Little-endian. Every section starts on a multiple of 4096 bytes, with zeros between:
///
///     header    0 char[8] "VPRINDEX"  8 u32 version  12 u32 dim  16 u32 metric (0: cosine)  20 u32 precision
///               24 u64 rows  32 u64 bytes of the file  40 u8[32] contract  72 u8[32] state  104 u32 m (0: no graph)
///               108 u32 ef_construction  112 u32 entry  116 u32 upper nodes  120 u32 upper lists  124 u32 twins
///               128 f32 spread  132 f32 farthest  136 u32 CRC-32C of section 1  140 zeros
///               4092 u32 CRC-32C of bytes 0 to 4091
///     sections  1 u32[] checksums, see block_checksum, of each 64 KiB from section 2 to the end of the file
///               2 f32[dim] middle  3 u32[rows][2m, to a multiple of 16] links  4 u32[][3] upper nodes
///               5 u32[lists][m] upper links  6 u32[][2] twins: linked row, row  7 i64[rows] ids
///               8 u8[rows] removed  9, 10 u8[rows] bounds  11, 12 u8[rows][] upper and lower planes
///               13 u8[rows][] values  14 u8[][] blocks of sketches
///
/// The records are those of Graph, Rows and Encoder. Opening a file checks the header, sections 1 to 8 and every number
/// in them. Every other block is checked before its first use. Nothing is used unchecked.
constexpr std::uint32_t kIndexFileVersion = 2;

using Fingerprint = std::array<std::uint8_t, 32>;

/// The contents of an index file. Rows and links stay in the mapped memory.
struct OpenedIndex {
    std::unique_ptr<MappedFile> file;
    Rows rows;
    Centre centre;
    std::unique_ptr<Graph> graph;  ///< null if the file has none
    Fingerprint state{};           ///< identity of the set of places that the index was derived from
};

/// Write an index to a temporary file beside `path`, flush it to disk, and rename it to `path`.
///
/// @param graph  null for none.
/// @throws IndexFileError  the file cannot be written; `path` then holds what it held before, or all of the new file.
void write_index_file(const std::string& path, const Rows& rows, const Centre& centre, const Graph* graph,
                      const Fingerprint& contract, const Fingerprint& state);

/// Map and check an index file.
///
/// @param dim       expected length of a descriptor.
/// @param contract  expected identity of the model.
/// @throws IndexFileError  missing, too short or too long, damaged, or of another version, dim or model.
OpenedIndex open_index_file(const std::string& path, std::size_t dim, const Fingerprint& contract);

}  // namespace vpr
