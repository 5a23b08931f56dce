#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace vpr {

/// An index file cannot be used. The message says what was found and what was expected.
class IndexFileError : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
};

/// A memory-mapped file. Each block of 64 KiB is checked against its checksum before its first use.
///
/// Thread-safe. Writes to the memory stay private to the process and never reach the file. The file must not be
/// truncated or written in place while it is mapped. A new version must be renamed into place.
class MappedFile {
   public:
    static constexpr std::size_t kBlockBytes = 65536;

    /// Map the whole file.
    ///
    /// @throws IndexFileError  it cannot be opened or mapped, or is shorter than `least_bytes`.
    MappedFile(const std::string& path, std::size_t least_bytes);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    const std::string& path() const noexcept { return path_; }
    std::uint8_t* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

    /// Set where the blocks start and where their checksums lie.
    void expect(std::size_t first_block_at, const std::uint32_t* checksums);

    /// Check the blocks of a range that were not checked before. Memory outside the blocks is ignored.
    ///
    /// @throws IndexFileError  a block is damaged.
    void need(const void* from, std::size_t bytes) const {
        const auto offset = static_cast<std::size_t>(static_cast<const std::uint8_t*>(from) - blocks_);
        if (offset >= block_bytes_) return;
        const std::size_t last = (offset + bytes - 1) / kBlockBytes;
        for (std::size_t block = offset / kBlockBytes; block <= last; ++block) {
            if (checked_[block].load(std::memory_order_relaxed) == 0) check(block);
        }
    }

    /// Check all blocks that were not checked before.
    void need_all() const;

    bool all_checked() const noexcept { return unchecked_.load(std::memory_order_relaxed) == 0; }

   private:
    void check(std::size_t block) const;

    std::string path_;
    std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
    std::uint8_t* blocks_ = nullptr;
    std::size_t block_bytes_ = 0;
    const std::uint32_t* checksums_ = nullptr;
    std::unique_ptr<std::atomic<std::uint8_t>[]> checked_;
    mutable std::atomic<std::size_t> unchecked_{0};
};

}  // namespace vpr
