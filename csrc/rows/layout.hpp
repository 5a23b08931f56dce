#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace vpr {

/// What is stored of a descriptor beside its code. Answers are scored with it.
enum class Precision : std::uint32_t {
    float16 = 0,  ///< the descriptor as binary16; ranks as float32 does
    float32 = 1,  ///< the descriptor as given
    int8 = 2,     ///< nothing; answers are scored with the code, and there are no sketches
};

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

/// The sizes of everything that is kept for one descriptor. All follow from two numbers.
struct Layout {
    static constexpr std::size_t kBlockRows = 32;  ///< rows in a block of sketches

    std::size_t dim = 0;
    Precision precision = Precision::float16;

    /// Dimensions of the rotated descriptor and of its code.
    std::size_t code_dim() const noexcept { return round_up(dim, 128); }

    /// Bytes of each of the two 4-bit planes that make a code.
    std::size_t plane_bytes() const noexcept { return code_dim() / 2; }

    /// Values of a stored descriptor, including the zeros at its end.
    std::size_t value_count() const noexcept { return round_up(dim, 32); }

    std::size_t value_bytes() const noexcept {
        if (precision == Precision::int8) return 0;
        return value_count() * (precision == Precision::float16 ? sizeof(std::uint16_t) : sizeof(float));
    }

    /// Groups of four signs in a sketch. A sketch has the signs of half the dimensions, but of at least 256 and at most
    /// 512. Fewer miss hard queries. More take longer to read than they save later (benchmarks/search.py, row `scan`).
    std::size_t sketch_groups() const noexcept {
        if (precision == Precision::int8) return 0;
        return std::min(code_dim(), std::clamp<std::size_t>(round_up(code_dim() / 2, 128), 256, 512)) / 4;
    }

    std::size_t sketch_block_bytes() const noexcept { return sketch_groups() * kBlockRows / 2; }
};

}  // namespace vpr
