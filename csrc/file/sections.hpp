#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "graph/graph.hpp"
#include "memory/mapped_file.hpp"
#include "rows/layout.hpp"
#include "rows/rows.hpp"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the index file is little-endian, and this code does not swap bytes"
#endif

namespace vpr {

// The layout that file/format.hpp describes, for the reader and the writer.

constexpr char kIndexMagic[8] = {'V', 'P', 'R', 'I', 'N', 'D', 'E', 'X'};
constexpr std::size_t kIndexPage = 4096;

struct IndexHeader {
    char magic[8];
    std::uint32_t version;
    std::uint32_t dim;
    std::uint32_t metric;
    std::uint32_t precision;
    std::uint64_t rows;
    std::uint64_t file_bytes;
    std::uint8_t contract[32];
    std::uint8_t state[32];
    std::uint32_t m;
    std::uint32_t ef_construction;
    std::uint32_t entry;
    std::uint32_t upper_nodes;
    std::uint32_t upper_lists;
    std::uint32_t twins;
    float spread;
    float farthest;
    std::uint32_t checksums_crc;
    std::uint8_t zeros[kIndexPage - 144];
    std::uint32_t header_crc;
};
static_assert(sizeof(IndexHeader) == kIndexPage && std::is_trivially_copyable_v<IndexHeader>);
constexpr std::size_t kIndexHeaderCrcOffset = sizeof(IndexHeader) - sizeof(std::uint32_t);

using UpperRecord = std::array<std::uint32_t, 3>;  // row, levels, first list
using TwinRecord = std::array<std::uint32_t, 2>;

/// Where the sections of a file start. Everything follows from the counts in its header.
struct IndexPlaces {
    static constexpr std::size_t kGraphSections = 4;
    static constexpr std::size_t kFirstColumn = 1 + kGraphSections;
    static constexpr std::size_t kSections = kFirstColumn + Rows::kColumns;  // sections 2 and up, which blocks cover
    static constexpr std::size_t kSectionsOpened = kFirstColumn + 2;         // how many of these are checked on opening

    explicit IndexPlaces(const IndexHeader& header) : layout{header.dim, static_cast<Precision>(header.precision)} {
        const std::uint64_t rows = header.rows;
        const std::uint64_t blocks = (rows + Layout::kBlockRows - 1) / Layout::kBlockRows;
        const std::uint64_t links = header.m > 0 ? rows * Graph::link_words(header.m) : 0;
        bytes = {layout.dim * sizeof(float),
                 links * sizeof(std::uint32_t),
                 header.upper_nodes * std::uint64_t{sizeof(UpperRecord)},
                 std::uint64_t{header.upper_lists} * header.m * sizeof(std::uint32_t),
                 header.twins * std::uint64_t{sizeof(TwinRecord)},
                 rows * sizeof(std::int64_t),
                 rows,
                 rows,
                 rows,
                 rows * layout.plane_bytes(),
                 rows * layout.plane_bytes(),
                 rows * layout.value_bytes(),
                 blocks * layout.sketch_block_bytes()};
        std::uint64_t covered = 0;
        for (const std::uint64_t section : bytes) covered += round_up(section, kIndexPage);
        checksums = (covered + MappedFile::kBlockBytes - 1) / MappedFile::kBlockBytes;
        first_block = sizeof(IndexHeader) + round_up(checksums * sizeof(std::uint32_t), kIndexPage);
        end = first_block;
        for (std::size_t i = 0; i < kSections; ++i) {
            start[i] = end;
            end += round_up(bytes[i], kIndexPage);
        }
    }

    Layout layout;
    std::array<std::uint64_t, kSections> bytes{};
    std::array<std::uint64_t, kSections> start{};
    std::uint64_t checksums = 0;
    std::uint64_t first_block = 0;
    std::uint64_t end = 0;
};

}  // namespace vpr
