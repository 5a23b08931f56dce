#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>
#include <vector>

#include "file/format.hpp"
#include "file/sections.hpp"
#include "memory/checksum.hpp"

namespace vpr {
namespace {

constexpr std::size_t kBytesToVersion = 12;

[[noreturn]] void fail(const std::string& path, const std::string& what) { throw IndexFileError(path + ": " + what); }

void check_version(const std::string& path, const IndexHeader& header) {
    if (std::memcmp(header.magic, kIndexMagic, sizeof(kIndexMagic)) != 0) fail(path, "is not an index file");
    if (header.version != kIndexFileVersion) {
        fail(path, "has version " + std::to_string(header.version) + ", this structvpr reads version " +
                       std::to_string(kIndexFileVersion));
    }
}

void check_header(const std::string& path, const IndexHeader& header, std::uint64_t file_bytes, std::size_t dim,
                  const Fingerprint& contract) {
    if (crc32c(&header, kIndexHeaderCrcOffset) != header.header_crc) fail(path, "has a damaged header");
    if (header.dim != dim) {
        fail(path,
             "holds descriptors of " + std::to_string(header.dim) + " dimensions, expected " + std::to_string(dim));
    }
    if (std::memcmp(header.contract, contract.data(), contract.size()) != 0) fail(path, "was made with another model");
    if (header.metric != 0 || header.precision > static_cast<std::uint32_t>(Precision::int8)) {
        fail(path, "has metric " + std::to_string(header.metric) + " and precision " +
                       std::to_string(header.precision) + ", expected 0 and 0 to 2");
    }
    // Check ranges before products: no crafted count may overflow, or make us allocate more than the file can hold.
    if (header.m == 1 || header.m > 128 || (header.m == 0) != (header.ef_construction == 0) ||
        (header.m > 0 && (header.ef_construction < header.m || header.ef_construction > 4096))) {
        fail(path, "has a graph with m " + std::to_string(header.m) + " and ef_construction " +
                       std::to_string(header.ef_construction) + ", expected 2 to 128 and m to 4096, or 0 and 0");
    }
    const bool absurd = header.rows > Rows::kLargest || header.rows > file_bytes || header.dim == 0 || dim > 65536 ||
                        (header.m == 0 && (header.upper_nodes | header.upper_lists | header.twins) != 0);
    const std::uint64_t expected = absurd ? 0 : IndexPlaces(header).end;
    if (header.file_bytes != file_bytes || expected != file_bytes) {
        fail(path, "has " + std::to_string(file_bytes) + " bytes, expected " +
                       (absurd ? "a possible number" : std::to_string(expected)) + " for its " +
                       std::to_string(header.rows) + " rows");
    }
}

/// Whether every link is kNone or below a limit, which is less than 2^31.
bool links_exist(const std::uint32_t* links, std::size_t count, std::uint32_t limit) {
    // kNone + 1 is 0. If a link is not below the limit, then link + 1 or limit - (link + 1) has its highest bit set.
    std::uint32_t signs = 0;
    for (std::size_t i = 0; i < count; ++i) signs |= (links[i] + 1) | (limit - (links[i] + 1));
    return signs < 0x80000000;
}

void check_graph(const std::string& path, const IndexHeader& header, const Graph& graph) {
    const auto rows = static_cast<std::uint32_t>(graph.rows);
    const auto nodes = static_cast<std::uint32_t>(graph.upper.size());
    const bool links_ok = rows == 0 || links_exist(graph.links_of(0), rows * graph.link_words(), rows);
    if (!links_ok) fail(path, "has a link to a row that is not there");
    std::uint64_t lists = 0;
    std::uint32_t top = 0;
    std::int64_t last = -1;
    for (const Graph::UpperNode& node : graph.upper) {
        const bool in_order = node.row > last && node.first_list == lists;
        if (!in_order || node.row >= rows || node.levels == 0 || node.levels > Graph::kMostLevels) {
            fail(path, "has an upper node that is not a row's, or not where it belongs");
        }
        last = node.row;
        lists += node.levels;
        top = std::max(top, node.levels);
    }
    if (lists != header.upper_lists) fail(path, "has a graph of the wrong size");
    for (std::uint32_t node = 0; node < nodes; ++node) {
        for (std::uint32_t level = 1; level <= graph.upper[node].levels; ++level) {
            const std::uint32_t* const links = graph.upper_links_of(node, level);
            for (std::size_t i = 0; i < graph.m; ++i) {
                if (links[i] != Graph::kNone && (links[i] >= nodes || graph.upper[links[i]].levels < level)) {
                    fail(path, "has a link to a row that is not on its level");
                }
            }
        }
    }
    const bool entry_ok = nodes > 0 ? graph.entry < nodes && graph.upper[graph.entry].levels == top
                                    : (rows > 0 ? graph.entry < rows : graph.entry == Graph::kNone);
    if (!entry_ok) fail(path, "has a graph without a valid entry");
}

/// A twin is a row without links. It is found through a linked row.
void check_twin(const std::string& path, const Graph& graph, const std::unordered_set<std::uint32_t>& twins,
                const TwinRecord& record) {
    if (record[0] >= graph.rows || record[1] >= graph.rows) fail(path, "has a twin that is not a row");
    if (record[0] == record[1] || *graph.links_of(record[1]) != Graph::kNone || twins.count(record[1]) != 0) {
        fail(path, "has a twin that is linked, or is one twice");
    }
}

/// No link, upper node or other twin may lead to a twin.
void check_no_way_to(const std::string& path, const Graph& graph, const std::unordered_set<std::uint32_t>& twins) {
    std::vector<std::uint8_t> is_twin(graph.rows, 0);
    for (const std::uint32_t row : twins) is_twin[row] = 1;
    const std::uint32_t* const links = graph.links_of(0);
    for (std::size_t i = 0; i < graph.rows * graph.link_words(); ++i) {
        if (links[i] != Graph::kNone && is_twin[links[i]] != 0) fail(path, "has a link to a twin");
    }
    for (const Graph::UpperNode& node : graph.upper) {
        if (is_twin[node.row] != 0) fail(path, "has a twin among its upper nodes");
    }
    for (const auto& [row, others] : graph.twins) {
        if (is_twin[row] != 0) fail(path, "has a twin of a row that is a twin itself");
    }
}

std::unique_ptr<Graph> open_graph(const std::string& path, const IndexHeader& header, const IndexPlaces& places,
                                  std::uint8_t* data) {
    auto graph = std::make_unique<Graph>(header.m, header.ef_construction);
    graph->rows = header.rows;
    graph->entry = header.entry;
    graph->links.adopt(data + places.start[1], header.rows);
    graph->upper.reserve(header.upper_nodes);
    for (std::uint32_t i = 0; i < header.upper_nodes; ++i) {
        UpperRecord record;
        std::memcpy(&record, data + places.start[2] + i * sizeof(record), sizeof(record));
        graph->upper.push_back({record[0], record[1], record[2]});
    }
    graph->upper_links.resize(std::size_t{header.upper_lists} * header.m);
    if (header.upper_lists > 0) std::memcpy(graph->upper_links.data(), data + places.start[3], places.bytes[3]);
    check_graph(path, header, *graph);
    std::unordered_set<std::uint32_t> twins;
    for (std::uint32_t i = 0; i < header.twins; ++i) {
        TwinRecord record;
        std::memcpy(&record, data + places.start[4] + i * sizeof(record), sizeof(record));
        check_twin(path, *graph, twins, record);
        twins.insert(record[1]);
        graph->twins[record[0]].push_back(record[1]);
    }
    if (!twins.empty()) check_no_way_to(path, *graph, twins);
    return graph;
}

/// The centre must be finite and possible for unit vectors.
void check_centre(const std::string& path, const Centre& centre, float farthest) {
    double squared = 0;
    for (const float value : centre.middle) squared += static_cast<double>(value) * value;
    const bool possible = squared <= 1.1 && centre.spread >= Centre::kLeastSpread && centre.spread <= 1 &&
                          farthest >= 0 && farthest <= 2.1;
    if (!possible) fail(path, "has a middle of its descriptors that unit vectors cannot have");
}

/// No id may be negative, and no id may occur twice.
void check_ids(const std::string& path, const Rows& rows) {
    std::int64_t last = -1;
    bool rising = true;
    for (std::size_t row = 0; row < rows.count;) {
        const std::size_t run = rows.ids.run_length(row, rows.count);
        const auto* const ids = reinterpret_cast<const std::int64_t*>(rows.ids.at(row));
        for (std::size_t i = 0; i < run; ++i) {
            rising &= ids[i] > last;
            last = ids[i];
        }
        row += run;
    }
    if (rising) return;
    std::vector<std::int64_t> ids;
    for (std::size_t row = 0; row < rows.count; ++row) {
        if (!rows.is_removed(row)) ids.push_back(rows.id(row));
    }
    std::sort(ids.begin(), ids.end());
    const auto twice = std::adjacent_find(ids.begin(), ids.end());
    if (twice != ids.end() || (!ids.empty() && ids.front() < 0)) {
        const std::int64_t id = twice != ids.end() ? *twice : ids.front();
        fail(path, "holds place id " + std::to_string(id) + " twice or negative");
    }
}

std::size_t count_removed(const std::string& path, const Rows& rows) {
    std::size_t removed = 0;
    std::uint8_t largest = 0;
    for (std::size_t row = 0; row < rows.count;) {
        const std::size_t run = rows.removed.run_length(row, rows.count);
        const std::uint8_t* const marks = rows.removed.at(row);
        for (std::size_t i = 0; i < run; ++i) {
            removed += marks[i];
            largest = std::max(largest, marks[i]);
        }
        row += run;
    }
    if (largest > 1) fail(path, "has a row that is neither there nor removed");
    return removed;
}

}  // namespace

OpenedIndex open_index_file(const std::string& path, std::size_t dim, const Fingerprint& contract) {
    auto file = std::make_unique<MappedFile>(path, kBytesToVersion);
    IndexHeader header{};
    std::memcpy(&header, file->data(), std::min(sizeof(header), file->size()));
    check_version(path, header);
    if (file->size() < sizeof(header)) {
        fail(path,
             "has " + std::to_string(file->size()) + " bytes, expected at least " + std::to_string(sizeof(header)));
    }
    check_header(path, header, file->size(), dim, contract);
    const IndexPlaces places(header);
    const auto* const checksums = reinterpret_cast<const std::uint32_t*>(file->data() + sizeof(IndexHeader));
    if (crc32c(checksums, places.first_block - sizeof(IndexHeader)) != header.checksums_crc) {
        fail(path, "has damaged checksums");
    }
    file->expect(places.first_block, checksums);
    const std::uint64_t opened = places.start[IndexPlaces::kSectionsOpened] - places.first_block;
#if defined(MADV_POPULATE_READ)
    ::madvise(file->data(), places.start[IndexPlaces::kSectionsOpened],
              MADV_POPULATE_READ);  // a hint: one page fault for all pages
#endif
    if (opened > 0) file->need(file->data() + places.first_block, opened);

    OpenedIndex index{nullptr, Rows(places.layout), Centre::origin(dim), nullptr, {}};
    index.rows.count = header.rows;
    index.rows.farthest = header.farthest;
    index.centre.spread = header.spread;
    std::memcpy(index.centre.middle.data(), file->data() + places.start[0], places.bytes[0]);
    check_centre(path, index.centre, header.farthest);
    std::size_t section = IndexPlaces::kFirstColumn;
    for (const auto& [column, records] : index.rows.columns()) {
        if (column->record_bytes() > 0) column->adopt(file->data() + places.start[section], records);
        ++section;
    }
    index.rows.removed_count = count_removed(path, index.rows);
    check_ids(path, index.rows);
    if (header.m > 0) index.graph = open_graph(path, header, places, file->data());
    std::memcpy(index.state.data(), header.state, index.state.size());
    index.file = std::move(file);
    return index;
}

}  // namespace vpr
