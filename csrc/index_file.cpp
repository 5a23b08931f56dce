#include "index_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <type_traits>

#include "checksum.hpp"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the index file is little-endian, and this reader does not swap bytes"
#endif

namespace vpr {
namespace {

constexpr char kMagic[8] = {'V', 'P', 'R', 'I', 'N', 'D', 'E', 'X'};
constexpr std::size_t kSections = 6;
constexpr std::uint32_t kNoRow = 0xFFFFFFFF;  // entry of a graph without rows

struct Header {
    char magic[8];
    std::uint32_t version;
    std::uint32_t dim;
    std::uint64_t rows;
    std::uint64_t file_bytes;
    std::uint8_t contract[32];
    std::uint8_t state[32];
    std::uint32_t m;
    std::uint32_t ef_construction;
    std::int32_t max_level;
    std::uint32_t entry_row;
    std::uint64_t upper_words;
    std::uint32_t section_crc[kSections];
    std::uint8_t zeros[44];
    std::uint32_t header_crc;
};
static_assert(sizeof(Header) == 192 && std::is_trivially_copyable_v<Header>);
constexpr std::size_t kHeaderCrcOffset = sizeof(Header) - sizeof(std::uint32_t);

[[noreturn]] void fail(const std::string& path, const std::string& what) { throw IndexFileError(path + ": " + what); }

[[noreturn]] void fail_errno(const std::string& path, const char* what) {
    fail(path, std::string(what) + ": " + std::strerror(errno));
}

/// A file descriptor that is closed whatever happens.
class File {
   public:
    File(std::string path, int flags, mode_t mode = 0)
        : path_(std::move(path)), descriptor_(::open(path_.c_str(), flags | O_CLOEXEC, mode)) {
        if (descriptor_ < 0) fail_errno(path_, "cannot be opened");
    }
    ~File() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    void write(const void* bytes, std::size_t size) {
        const auto* next = static_cast<const char*>(bytes);
        while (size > 0) {
            const ssize_t written = ::write(descriptor_, next, size);
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) fail_errno(path_, "cannot be written");
            next += written;
            size -= static_cast<std::size_t>(written);
        }
    }

    void read(void* bytes, std::size_t size) {
        auto* next = static_cast<char*>(bytes);
        while (size > 0) {
            const ssize_t got = ::read(descriptor_, next, size);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) fail_errno(path_, "cannot be read");
            if (got == 0) fail(path_, "ends before all that its header announces");
            next += got;
            size -= static_cast<std::size_t>(got);
        }
    }

    void sync() {
        if (::fsync(descriptor_) != 0) fail_errno(path_, "cannot be flushed to the medium");
    }

    void close() {
        const int descriptor = descriptor_;
        descriptor_ = -1;
        if (::close(descriptor) != 0) fail_errno(path_, "cannot be closed");
    }

    std::uint64_t size() const {
        struct stat status{};
        if (::fstat(descriptor_, &status) != 0) fail_errno(path_, "cannot be examined");
        return static_cast<std::uint64_t>(status.st_size);
    }

   private:
    std::string path_;
    int descriptor_;
};

template <class T>
std::size_t bytes_of(const std::vector<T>& values) {
    return values.size() * sizeof(T);
}

template <class T>
std::uint32_t crc_of(const std::vector<T>& values) {
    return crc32c(values.data(), bytes_of(values));
}

std::uint64_t expected_bytes(const Header& header) {
    const std::uint64_t per_row =
        sizeof(std::int64_t) + sizeof(std::uint8_t) + std::uint64_t{header.dim} * sizeof(float);
    std::uint64_t total = sizeof(Header) + header.rows * per_row;
    if (header.m > 0) {
        const std::uint64_t links = (2 * std::uint64_t{header.m} + 1) * sizeof(std::uint32_t);
        total += header.rows * (sizeof(std::uint8_t) + links) + header.upper_words * sizeof(std::uint32_t);
    }
    return total;
}

void check_header(const std::string& path, const Header& header, std::uint64_t file_bytes, std::size_t dim,
                  const Fingerprint& contract) {
    std::ostringstream what;
    if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) fail(path, "is not an index file");
    if (header.version == 0 || header.version > kIndexFileVersion) {
        what << "has version " << header.version << ", this structvpr reads up to " << kIndexFileVersion;
        fail(path, what.str());
    }
    if (crc32c(&header, kHeaderCrcOffset) != header.header_crc) fail(path, "has a damaged header");
    if (header.dim != dim) {
        what << "holds descriptors of " << header.dim << " dimensions, expected " << dim;
        fail(path, what.str());
    }
    if (std::memcmp(header.contract, contract.data(), contract.size()) != 0) fail(path, "was made with another model");
    // Bounds before products: no crafted count may overflow, or make us allocate what the file cannot hold.
    if (header.rows > file_bytes || header.upper_words > file_bytes || header.m > 128 ||
        header.file_bytes != file_bytes || expected_bytes(header) != file_bytes) {
        what << "has " << file_bytes << " bytes, expected " << expected_bytes(header) << " for its " << header.rows
             << " rows";
        fail(path, what.str());
    }
}

/// Lists of links are safe to follow: lengths within their lists, rows that exist and reach the list's level.
void check_graph(const std::string& path, const GraphImage& graph) {
    const std::size_t rows = graph.levels.size();
    const auto check_list = [&](const std::uint32_t* list, std::size_t capacity, std::size_t level) {
        if (list[0] > capacity) fail(path, "has a list of links that is longer than its room");
        for (std::size_t i = 1; i <= list[0]; ++i) {
            if (list[i] >= rows || graph.levels[list[i]] < level) fail(path, "has a link to a row that is not there");
        }
    };
    if (graph.m < 2 || graph.ef_construction < graph.m || graph.ef_construction > 4096) {
        fail(path, "has a graph with m " + std::to_string(graph.m) + " and ef_construction " +
                       std::to_string(graph.ef_construction) + ", expected 2 to 128 and m to 4096");
    }
    if (rows == 0 && graph.entry_row == kNoRow && graph.max_level == -1 && graph.upper_links.empty()) return;
    if (graph.entry_row >= rows || graph.max_level < 0 ||
        graph.levels[graph.entry_row] != static_cast<std::size_t>(graph.max_level)) {
        fail(path, "has a graph without a valid entry");
    }
    std::size_t upper_lists = 0;
    for (const std::uint8_t level : graph.levels) {
        if (level > graph.max_level) fail(path, "has a row above the top of its graph");
        upper_lists += level;
    }
    if (upper_lists * graph.upper_stride() != graph.upper_links.size()) fail(path, "has a graph of the wrong size");
    const std::uint32_t* upper = graph.upper_links.data();
    for (std::size_t row = 0; row < rows; ++row) {
        check_list(graph.level0_links.data() + row * graph.level0_stride(), graph.level0_stride() - 1, 0);
        for (std::size_t level = 1; level <= graph.levels[row]; ++level, upper += graph.upper_stride()) {
            check_list(upper, graph.upper_stride() - 1, level);
        }
    }
}

std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

void write_index_file(const std::string& path, const Rows& rows, const GraphImage& graph, const Fingerprint& contract,
                      const Fingerprint& state) {
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof(kMagic));
    header.version = kIndexFileVersion;
    header.dim = static_cast<std::uint32_t>(rows.dim);
    header.rows = rows.size();
    std::memcpy(header.contract, contract.data(), contract.size());
    std::memcpy(header.state, state.data(), state.size());
    header.m = graph.m;
    header.ef_construction = graph.ef_construction;
    header.max_level = graph.max_level;
    header.entry_row = graph.entry_row;
    header.upper_words = graph.upper_links.size();
    header.file_bytes = expected_bytes(header);

    const auto for_each_block = [&rows](const auto& visit) {
        for (std::size_t block = 0; block * Rows::kBlockRows < rows.size(); ++block) {
            visit(rows.blocks[block].get(), Rows::rows_in_block(block, rows.size()) * rows.dim * sizeof(float));
        }
    };
    header.section_crc[0] = crc_of(rows.ids);
    header.section_crc[1] = crc_of(rows.removed);
    for_each_block([&](const float* values, std::size_t size) {
        header.section_crc[2] = crc32c(values, size, header.section_crc[2]);
    });
    header.section_crc[3] = crc_of(graph.levels);
    header.section_crc[4] = crc_of(graph.level0_links);
    header.section_crc[5] = crc_of(graph.upper_links);
    header.header_crc = crc32c(&header, kHeaderCrcOffset);

    // The process id keeps two processes that derive the same index out of each other's way.
    const std::string temporary = path + ".tmp-" + std::to_string(::getpid());
    try {
        File file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        file.write(&header, sizeof(header));
        file.write(rows.ids.data(), bytes_of(rows.ids));
        file.write(rows.removed.data(), bytes_of(rows.removed));
        for_each_block([&](const float* values, std::size_t size) { file.write(values, size); });
        file.write(graph.levels.data(), bytes_of(graph.levels));
        file.write(graph.level0_links.data(), bytes_of(graph.level0_links));
        file.write(graph.upper_links.data(), bytes_of(graph.upper_links));
        file.sync();
        file.close();
        if (::rename(temporary.c_str(), path.c_str()) != 0) fail_errno(path, "cannot be replaced");
    } catch (const IndexFileError&) {
        ::unlink(temporary.c_str());
        throw;
    }
    // Without this a power cut can bring back the old name. The new file is in place all the same.
    File(folder_of(path), O_RDONLY | O_DIRECTORY).sync();
}

IndexImage read_index_file(const std::string& path, std::size_t dim, const Fingerprint& contract) {
    File file(path, O_RDONLY);
    const std::uint64_t file_bytes = file.size();
    if (file_bytes < sizeof(Header)) {
        fail(path, "has " + std::to_string(file_bytes) + " bytes, expected at least " + std::to_string(sizeof(Header)));
    }
    Header header;
    file.read(&header, sizeof(header));
    check_header(path, header, file_bytes, dim, contract);

    IndexImage image;
    std::memcpy(image.state.data(), header.state, image.state.size());
    image.rows.dim = dim;
    image.rows.ids.resize(header.rows);
    image.rows.removed.resize(header.rows);
    image.graph.m = header.m;
    image.graph.ef_construction = header.ef_construction;
    image.graph.max_level = header.max_level;
    image.graph.entry_row = header.entry_row;
    if (header.m > 0) {
        image.graph.levels.resize(header.rows);
        image.graph.level0_links.resize(header.rows * image.graph.level0_stride());
        image.graph.upper_links.resize(header.upper_words);
    }

    const auto check_section = [&](std::size_t section, std::uint32_t crc) {
        if (crc != header.section_crc[section]) fail(path, "is damaged in section " + std::to_string(section + 1));
    };
    const auto read_section = [&](std::size_t section, auto& values) {
        file.read(values.data(), bytes_of(values));
        check_section(section, crc_of(values));
    };
    read_section(0, image.rows.ids);
    read_section(1, image.rows.removed);
    std::uint32_t crc = 0;
    for (std::size_t done = 0; done < header.rows; done += Rows::kBlockRows) {
        const std::size_t size = Rows::rows_in_block(done / Rows::kBlockRows, header.rows) * dim * sizeof(float);
        float* values = image.rows.new_block();
        file.read(values, size);
        crc = crc32c(values, size, crc);
    }
    check_section(2, crc);
    read_section(3, image.graph.levels);
    read_section(4, image.graph.level0_links);
    read_section(5, image.graph.upper_links);
    if (image.graph.m > 0) check_graph(path, image.graph);
    return image;
}

}  // namespace vpr
