#include "memory/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "memory/checksum.hpp"

namespace vpr {
namespace {

[[noreturn]] void fail_errno(const std::string& path, const char* what) {
    throw IndexFileError(path + ": " + what + ": " + std::strerror(errno));
}

/// An open file. The destructor closes it; a mapping outlives it.
struct OpenFile {
    explicit OpenFile(const std::string& path) : descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
        if (descriptor < 0) fail_errno(path, "cannot be opened");
    }
    ~OpenFile() { ::close(descriptor); }
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;
    int descriptor;
};

}  // namespace

MappedFile::MappedFile(const std::string& path, std::size_t least_bytes) : path_(path) {
    const OpenFile file(path);
    struct stat status{};
    if (::fstat(file.descriptor, &status) != 0) fail_errno(path, "cannot be examined");
    if (!S_ISREG(status.st_mode)) throw IndexFileError(path + ": is not a file");
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ < least_bytes) {
        throw IndexFileError(path + ": has " + std::to_string(size_) + " bytes, expected at least " +
                             std::to_string(least_bytes));
    }
    // Writable, so that links can be added to rows of the file. Pages that are not written stay shared with the page
    // cache.
    void* const memory =
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.descriptor, 0);
    if (memory == MAP_FAILED) fail_errno(path, "cannot be mapped");
    data_ = static_cast<std::uint8_t*>(memory);
}

MappedFile::~MappedFile() { ::munmap(data_, size_); }

void MappedFile::expect(std::size_t first_block_at, const std::uint32_t* checksums) {
    blocks_ = data_ + first_block_at;
    block_bytes_ = size_ - first_block_at;
    checksums_ = checksums;
    const std::size_t count = (block_bytes_ + kBlockBytes - 1) / kBlockBytes;
    checked_ = std::make_unique<std::atomic<std::uint8_t>[]>(count);
    for (std::size_t i = 0; i < count; ++i) checked_[i].store(0, std::memory_order_relaxed);
    unchecked_ = count;
}

void MappedFile::check(std::size_t block) const {
    const std::uint8_t* const from = blocks_ + block * kBlockBytes;
    const std::size_t bytes = std::min(kBlockBytes, block_bytes_ - block * kBlockBytes);
    if (block_checksum(from, bytes) != checksums_[block]) {
        throw IndexFileError(path_ + ": is damaged in block " + std::to_string(block) + " of 64 KiB");
    }
    // Two threads may check a block at once. Only one of them counts it.
    if (checked_[block].exchange(1, std::memory_order_relaxed) == 0) unchecked_.fetch_sub(1, std::memory_order_relaxed);
}

void MappedFile::need_all() const {
    if (!all_checked()) need(blocks_, block_bytes_);
}

}  // namespace vpr
