// The reference, which every other set must equal bit for bit. Plain loops, which the compiler may vectorise.

#include <cstring>

#include "kernels/plain.inl"
#include "kernels/sets.hpp"

namespace vpr {
namespace {

double squared_length(const float* row, std::size_t dim) {
    constexpr std::size_t kLanes = 16;
    double lanes[kLanes] = {};
    std::size_t i = 0;
    for (; i + kLanes <= dim; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const double value = row[i + lane];
            lanes[lane] += value * value;
        }
    }
    double sum = 0.0;
    for (const double lane : lanes) sum += lane;
    for (; i < dim; ++i) sum += static_cast<double>(row[i]) * row[i];
    return sum;
}

constexpr std::size_t kDotLanes = 32;

float sum_of_lanes(float* lanes) {
    for (std::size_t width = kDotLanes / 2; width > 0; width /= 2) {
        for (std::size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    return lanes[0];
}

float dot_f32(const float* query, const float* row, std::size_t dim) {
    float lanes[kDotLanes] = {};
    for (std::size_t i = 0; i < dim; i += kDotLanes) {
        for (std::size_t lane = 0; lane < kDotLanes; ++lane) lanes[lane] += query[i + lane] * row[i + lane];
    }
    return sum_of_lanes(lanes);
}

float dot_f16(const float* query, const std::uint16_t* row, std::size_t dim) {
    float lanes[kDotLanes] = {};
    for (std::size_t i = 0; i < dim; i += kDotLanes) {
        for (std::size_t lane = 0; lane < kDotLanes; ++lane) {
            lanes[lane] += query[i + lane] * half_to_float(row[i + lane]);
        }
    }
    return sum_of_lanes(lanes);
}

void hadamard(float* values, std::size_t n) {
    for (std::size_t stride = 1; stride < n; stride *= 2) {
        for (std::size_t start = 0; start < n; start += 2 * stride) {
            for (std::size_t i = start; i < start + stride; ++i) {
                const float a = values[i];
                const float b = values[i + stride];
                values[i] = a + b;
                values[i + stride] = a - b;
            }
        }
    }
}

std::int32_t plane_product(const std::int8_t* query, const std::uint8_t* plane, std::size_t plane_bytes) {
    std::int32_t sum = 0;
    for (std::size_t line = 0; line < plane_bytes; line += 64) {
        for (std::size_t j = 0; j < 64; ++j) {
            sum += query[2 * line + j] * (plane[line + j] & 15);
            sum += query[2 * line + 64 + j] * (plane[line + j] >> 4);
        }
    }
    return sum;
}

void plane_products(const std::int8_t* query, const std::uint8_t* const* planes, std::size_t count,
                    std::size_t plane_bytes, std::int32_t* products) {
    for (std::size_t i = 0; i < count; ++i) products[i] = plane_product(query, planes[i], plane_bytes);
}

void plane_scan(const std::int8_t* query, const std::uint8_t* planes, std::size_t count, std::size_t plane_bytes,
                std::int32_t* products) {
    for (std::size_t i = 0; i < count; ++i) products[i] = plane_product(query, planes + i * plane_bytes, plane_bytes);
}

std::int32_t code_product(const std::uint8_t* high_a, const std::uint8_t* low_a, const std::uint8_t* high_b,
                          const std::uint8_t* low_b, std::size_t plane_bytes) {
    std::int32_t sum = 0;
    for (std::size_t j = 0; j < plane_bytes; ++j) {
        sum += ((high_a[j] & 15) * 16 + (low_a[j] & 15) - 128) * ((high_b[j] & 15) * 16 + (low_b[j] & 15) - 128);
        sum += ((high_a[j] >> 4) * 16 + (low_a[j] >> 4) - 128) * ((high_b[j] >> 4) * 16 + (low_b[j] >> 4) - 128);
    }
    return sum;
}

void sketch_sums(const std::uint8_t* tables, std::size_t groups, const std::uint8_t* blocks, std::size_t count,
                 std::uint16_t* sums) {
    std::memset(sums, 0, count * 32 * sizeof(*sums));
    for (std::size_t block = 0; block < count; ++block, blocks += 16 * groups, sums += 32) {
        for (std::size_t group = 0; group < groups; ++group) {
            const std::uint8_t* table = tables + 16 * group;
            const std::uint8_t* nibbles = blocks + 16 * group;
            for (std::size_t j = 0; j < 16; ++j) {
                sums[j] = static_cast<std::uint16_t>(sums[j] + table[nibbles[j] & 15]);
                sums[16 + j] = static_cast<std::uint16_t>(sums[16 + j] + table[nibbles[j] >> 4]);
            }
        }
    }
}

std::size_t above(const std::uint16_t* sums, std::size_t count, std::uint16_t threshold, std::uint32_t* positions) {
    std::size_t found = 0;
    for (std::size_t i = 0; i < count; ++i) {
        positions[found] = static_cast<std::uint32_t>(i);
        found += sums[i] > threshold ? 1 : 0;
    }
    return found;
}

}  // namespace

const Kernels kScalarKernels{"scalar",       squared_length, dot_f32,      dot_f16,     hadamard,    round_to_codes,
                             plane_products, plane_scan,     code_product, sketch_sums, count_above, above};

}  // namespace vpr
