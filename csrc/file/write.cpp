#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "file/format.hpp"
#include "file/sections.hpp"
#include "memory/checksum.hpp"

namespace vpr {
namespace {

[[noreturn]] void fail_errno(const std::string& path, const char* what) {
    throw IndexFileError(path + ": " + what + ": " + std::strerror(errno));
}

/// A file that is written block by block. The destructor closes it.
class Writer {
   public:
    explicit Writer(std::string path)
        : path_(std::move(path)),
          block_(MappedFile::kBlockBytes),
          descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
        if (descriptor_ < 0) fail_errno(path_, "cannot be opened");
    }
    ~Writer() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    void seek(std::uint64_t offset) {
        if (::lseek(descriptor_, static_cast<off_t>(offset), SEEK_SET) < 0) fail_errno(path_, "cannot be written");
    }

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

    /// Write bytes that blocks cover.
    void append(const void* bytes, std::size_t size) {
        const auto* next = static_cast<const std::uint8_t*>(bytes);
        while (size > 0) {
            const std::size_t part = std::min(size, block_.size() - filled_);
            std::memcpy(block_.data() + filled_, next, part);
            filled_ += part;
            next += part;
            size -= part;
            if (filled_ == block_.size()) end_block();
        }
    }

    void end_section() {
        static constexpr std::uint8_t kZeros[kIndexPage] = {};
        if (filled_ % kIndexPage != 0) append(kZeros, kIndexPage - filled_ % kIndexPage);
    }

    /// End the last block and return the checksums of all. Nothing may be appended afterwards.
    const std::vector<std::uint32_t>& end() {
        if (filled_ > 0) end_block();
        return checksums_;
    }

    void flush_and_close() {
        if (::fsync(descriptor_) != 0) fail_errno(path_, "cannot be flushed to the medium");
        const int descriptor = descriptor_;
        descriptor_ = -1;
        if (::close(descriptor) != 0) fail_errno(path_, "cannot be closed");
    }

   private:
    void end_block() {
        checksums_.push_back(block_checksum(block_.data(), filled_));
        write(block_.data(), filled_);
        filled_ = 0;
    }

    std::string path_;
    std::vector<std::uint8_t> block_;
    int descriptor_;
    std::size_t filled_ = 0;
    std::vector<std::uint32_t> checksums_;
};

void append_column(Writer& file, const Column& column, std::size_t records) {
    if (column.record_bytes() > 0) {
        for (std::size_t record = 0; record < records;) {
            const std::size_t run = column.run_length(record, records);
            file.append(column.at(record), run * column.record_bytes());
            record += run;
        }
    }
    file.end_section();
}

template <class T>
void append_vector(Writer& file, const std::vector<T>& values) {
    file.append(values.data(), values.size() * sizeof(T));
    file.end_section();
}

void append_sections(Writer& file, const Rows& rows, const Centre& centre, const Graph* graph,
                     const std::vector<TwinRecord>& twins) {
    append_vector(file, centre.middle);
    if (graph != nullptr) {
        append_column(file, graph->links, rows.count);
        std::vector<UpperRecord> upper;
        for (const Graph::UpperNode& node : graph->upper) upper.push_back({node.row, node.levels, node.first_list});
        append_vector(file, upper);
        append_vector(file, graph->upper_links);
        append_vector(file, twins);
    }
    for (const auto& [column, records] : rows.columns()) append_column(file, *column, records);
}

/// A suffix for a temporary file: the process id, which tells other processes whose file it is, and a random number.
std::string unused_suffix() {
    std::random_device random;
    return std::to_string(::getpid()) + '-' + std::to_string(random());
}

void sync_folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) fail_errno(folder, "cannot be opened");
    const bool synced = ::fsync(descriptor) == 0;
    ::close(descriptor);
    if (!synced) fail_errno(folder, "cannot be flushed to the medium");
}

}  // namespace

void write_index_file(const std::string& path, const Rows& rows, const Centre& centre, const Graph* graph,
                      const Fingerprint& contract, const Fingerprint& state) {
    IndexHeader header{};
    std::memcpy(header.magic, kIndexMagic, sizeof(kIndexMagic));
    header.version = kIndexFileVersion;
    header.dim = static_cast<std::uint32_t>(rows.layout.dim);
    header.precision = static_cast<std::uint32_t>(rows.layout.precision);
    header.rows = rows.count;
    header.spread = centre.spread;
    header.farthest = rows.farthest;
    std::memcpy(header.contract, contract.data(), contract.size());
    std::memcpy(header.state, state.data(), state.size());
    std::vector<TwinRecord> twins;
    if (graph != nullptr) {
        for (const auto& [row, others] : graph->twins) {
            for (const std::uint32_t other : others) twins.push_back({row, other});
        }
        std::sort(twins.begin(), twins.end());
        header.m = static_cast<std::uint32_t>(graph->m);
        header.ef_construction = static_cast<std::uint32_t>(graph->ef_construction);
        header.entry = graph->entry;
        header.upper_nodes = static_cast<std::uint32_t>(graph->upper.size());
        header.upper_lists = static_cast<std::uint32_t>(graph->upper_links.size() / graph->m);
        header.twins = static_cast<std::uint32_t>(twins.size());
    }
    const IndexPlaces places(header);
    header.file_bytes = places.end;
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
        throw IndexFileError(path + ": cannot be replaced: it is not a file");
    }

    const std::string temporary = path + ".tmp-" + unused_suffix();
    Writer file(temporary);
    try {
        file.seek(places.first_block);
        append_sections(file, rows, centre, graph, twins);
        std::vector<std::uint32_t> checksums = file.end();
        // Pad with zeros to the end of the page.
        checksums.resize((places.first_block - sizeof(IndexHeader)) / sizeof(std::uint32_t));
        header.checksums_crc = crc32c(checksums.data(), checksums.size() * sizeof(std::uint32_t));
        header.header_crc = crc32c(&header, kIndexHeaderCrcOffset);
        file.seek(0);
        file.write(&header, sizeof(header));
        file.write(checksums.data(), checksums.size() * sizeof(std::uint32_t));
        file.flush_and_close();
        if (::rename(temporary.c_str(), path.c_str()) != 0) fail_errno(path, "cannot be replaced");
    } catch (...) {
        ::unlink(temporary.c_str());
        throw;
    }
    // Without this a power cut may undo the rename. If it fails, the new file is in place nevertheless.
    sync_folder_of(path);
}

}  // namespace vpr
