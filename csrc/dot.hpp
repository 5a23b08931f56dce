#pragma once

#include <cstddef>

namespace vpr {

/// Inner product of two float32 vectors, summed in one fixed order: the same bits on every machine.
float dot(const float* a, const float* b, std::size_t dim) noexcept;

}  // namespace vpr
