#pragma once

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

namespace vpr {

constexpr std::size_t kCacheLine = 64;

/// Memory that starts on a cache line, as the kernels expect.
template <class T>
struct AlignedAllocator {
    using value_type = T;

    AlignedAllocator() = default;
    template <class U>
    AlignedAllocator(const AlignedAllocator<U>&) noexcept {}

    T* allocate(std::size_t count) {
        return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{kCacheLine}));
    }
    void deallocate(T* memory, std::size_t) noexcept { ::operator delete(memory, std::align_val_t{kCacheLine}); }

    /// Without a value, an element stays uninitialised: these vectors are filled right after they are made.
    template <class U>
    void construct(U* element) noexcept {
        ::new (static_cast<void*>(element)) U;
    }
    template <class U, class... Values>
    void construct(U* element, Values&&... values) {
        ::new (static_cast<void*>(element)) U(std::forward<Values>(values)...);
    }

    template <class U>
    bool operator==(const AlignedAllocator<U>&) const noexcept {
        return true;
    }
    template <class U>
    bool operator!=(const AlignedAllocator<U>&) const noexcept {
        return false;
    }
};

template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace vpr
