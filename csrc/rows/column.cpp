#include "rows/column.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "memory/aligned.hpp"

namespace vpr {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

#if defined(MADV_COLLAPSE)
constexpr int kCollapse = MADV_COLLAPSE;
#else
constexpr int kCollapse = 25;  // Linux 6.1; older kernels refuse it
#endif

Column::Memory allocate(std::size_t size) {
    const std::size_t alignment = size >= kHugePage ? kHugePage : kCacheLine;
    auto* memory = static_cast<std::uint8_t*>(::operator new(size, std::align_val_t{alignment}));
    return {memory, Column::FreeMemory{alignment}};
}

}  // namespace

void Column::FreeMemory::operator()(std::uint8_t* memory) const noexcept {
    ::operator delete(memory, std::align_val_t{alignment});
}

Column::Column(std::size_t record_bytes, std::size_t chunk_records)
    : record_bytes_(record_bytes), mask_(chunk_records - 1) {
    while (std::size_t{1} << shift_ < chunk_records) ++shift_;
}

std::size_t Column::run_length(std::size_t record, std::size_t count) const noexcept {
    return std::min(count - record, mask_ + 1 - (record & mask_));
}

void Column::adopt(std::uint8_t* section, std::size_t count) {
    for (std::size_t first = 0; first < count; first += mask_ + 1) {
        chunks_.push_back(section + first * record_bytes_);
        owned_.emplace_back();
    }
}

Column::Growth Column::growth_for(std::size_t used, std::size_t wanted) const {
    Growth growth;
    growth.first = chunks_.size();
    if (record_bytes_ == 0 || wanted <= used) return growth;
    const std::size_t in_last = used & mask_;
    const bool last_is_mapped = in_last > 0 && owned_[used >> shift_] == nullptr;
    if (last_is_mapped) --growth.first;
    const std::size_t chunks = (wanted + mask_) >> shift_;
    while (growth.first + growth.chunks.size() < chunks) growth.chunks.push_back(allocate((mask_ + 1) * record_bytes_));
    if (last_is_mapped) std::memcpy(growth.chunks[0].get(), chunks_.back(), in_last * record_bytes_);
    return growth;
}

void Column::grow(Growth growth) {
    // Reserve first, which can fail: a chunk must be in both vectors or in neither.
    chunks_.reserve(growth.first + growth.chunks.size());
    owned_.reserve(growth.first + growth.chunks.size());
    chunks_.resize(growth.first);
    owned_.resize(growth.first);
    for (Memory& chunk : growth.chunks) {
        chunks_.push_back(chunk.get());
        owned_.push_back(std::move(chunk));
    }
}

void Column::settle(std::size_t from, std::size_t to) noexcept {
    const std::size_t chunk_bytes = (mask_ + 1) * record_bytes_;
    if (chunk_bytes < kHugePage) return;
    for (std::size_t chunk = from >> shift_; chunk < chunks_.size() && chunk << shift_ < to; ++chunk) {
        if (owned_[chunk] == nullptr) continue;
        const std::size_t first = chunk << shift_;
        const std::size_t begin = from > first ? (from - first) * record_bytes_ : 0;
        const std::size_t end = std::min((to - first) * record_bytes_, chunk_bytes);
        std::uint8_t* const memory = chunks_[chunk] + begin / kHugePage * kHugePage;
        const std::size_t full = end / kHugePage * kHugePage - std::min(end, begin) / kHugePage * kHugePage;
        // These are hints. Without them the index works, but slower.
        if (full > 0 && ::madvise(memory, full, kCollapse) != 0) ::madvise(memory, full, MADV_HUGEPAGE);
    }
}

}  // namespace vpr
