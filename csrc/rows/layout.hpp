#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace vpr {

/// What is kept of a descriptor beside its codes, and therefore what an answer is scored with.
enum class Precision : std::uint32_t {
    float16 = 0,  ///< the descriptor as binary16, which ranks as float32 does
    float32 = 1,  ///< the descriptor as it came
    int8 = 2,     ///< nothing: the code alone, and no sketch
};

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

/// The sizes of what is kept for one descriptor. All follow from these two numbers.
struct Layout {
    static constexpr std::size_t kBlockRows = 32;  ///< rows of a block of sketches

    std::size_t dim = 0;
    Precision precision = Precision::float16;

    /// Dimensions of the rotated descriptor and of its code.
    std::size_t code_dim() const noexcept { return round_up(dim, 128); }

    /// Bytes of each of the two planes of four bits that make a code.
    std::size_t plane_bytes() const noexcept { return code_dim() / 2; }

    /// Values of a stored descriptor, zeros at the end included.
    std::size_t value_count() const noexcept { return round_up(dim, 32); }

    std::size_t value_bytes() const noexcept {
        if (precision == Precision::int8) return 0;
        return value_count() * (precision == Precision::float16 ? sizeof(std::uint16_t) : sizeof(float));
    }

    /// Groups of four signs in a sketch: of half the dimensions, 256 to 512 of them. Fewer miss hard queries, more take
    /// longer to read than what they save later (benchmarks/search.py, row `scan`).
    std::size_t sketch_groups() const noexcept {
        if (precision == Precision::int8) return 0;
        return std::min(code_dim(), std::clamp<std::size_t>(round_up(code_dim() / 2, 128), 256, 512)) / 4;
    }

    std::size_t sketch_block_bytes() const noexcept { return sketch_groups() * kBlockRows / 2; }
};

}  // namespace vpr
