#include "rows/encoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/half.hpp"

namespace vpr {
namespace {

// Each dimension of a rotated unit vector has standard deviation 1 / sqrt(code_dim). A code covers this many deviations
// to either side. One dimension in 16,000 is clipped, and the bounds of its row account for that.
constexpr double kSpan = 4.0;

constexpr float kLargestCode = 127.0F;
constexpr float kMiddle = 7.5F - 128;                 // value of an upper nibble of 0: the middle of -128 to -113
constexpr std::uint64_t kSeed = 0x53747275'63745650;  // part of the file format: another seed makes other codes

/// Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators (OOPSLA 2014), SplitMix64.
std::uint64_t scramble(std::uint64_t value) {
    value += 0x9E3779B97F4A7C15;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9;
    value = (value ^ value >> 27) * 0x94D049BB133111EB;
    return value ^ value >> 31;
}

std::size_t largest_power_of_two(std::size_t up_to) {
    std::size_t power = 1;
    while (2 * power <= up_to) power *= 2;
    return power;
}

/// A length from its sum of squares, in steps. The factor covers the error of the sum: this many float32 squares add up
/// to one part in a thousand, by a wide margin.
double length_of(double squared_steps, double step) { return std::sqrt(squared_steps) * 1.001 * step; }

/// Copies values and appends zeros up to a size.
AlignedVector<float> padded(const float* values, std::size_t count, std::size_t size) {
    AlignedVector<float> result(size);
    std::fill(std::copy_n(values, count, result.begin()), result.end(), 0.0F);
    return result;
}

/// An error in units of a bound, rounded up so that the bound holds.
std::uint8_t in_units(double error, double unit) {
    const double units = std::ceil(error / unit);
    return units < CodeBounds::kUnbounded ? static_cast<std::uint8_t>(units) : CodeBounds::kUnbounded;
}

}  // namespace

Encoder::Encoder(const Layout& layout, const Kernels& kernels, Centre centre)
    : layout_(layout),
      kernels_(kernels),
      centre_(std::move(centre)),
      rotated_middle_(layout.code_dim(), 0.0F),
      query_steps_(static_cast<float>(kLargestCode * std::sqrt(static_cast<double>(layout.code_dim())) / kSpan)),
      row_steps_(query_steps_ / centre_.spread),
      query_step_(1.0 / query_steps_),
      row_step_(1.0 / row_steps_) {
    const std::size_t size = layout.code_dim();
    const std::size_t power = largest_power_of_two(size);
    const std::size_t rounds = power == size ? 2 : 3;
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(power)));
    // One round is enough for most descriptors. But a descriptor with few nonzero values, or with few dimensions in a
    // longer code, becomes a few numbers repeated many times. Their rounding errors repeat as well and add up.
    signs_.resize(rounds * size);
    for (std::size_t i = 0; i < signs_.size(); ++i) {
        const std::size_t round = i / size;
        const std::size_t first = round % 2 == 0 ? 0 : size - power;  // of the transform in this round
        const bool transformed = i % size >= first && i % size < first + power;
        signs_[i] = (scramble(kSeed + i) & 1U) != 0 ? 1.0F : -1.0F;
        if (transformed) signs_[i] *= scale;
    }
    // Each stage of a rotation and each level of a sum errs by half a unit in the last place, 2^-24 for lengths of 1. A
    // similarity depends on the rotations of a query, a row and the middle, and on two sums. The total is doubled.
    const double stages = static_cast<double>(rounds) * (std::log2(static_cast<double>(power)) + 3);
    const double additions = static_cast<double>(size) / 32 + 6;
    rounding_ = std::ldexp(8 * stages + 4 * additions, -24);
    std::copy(centre_.middle.begin(), centre_.middle.end(), rotated_middle_.begin());
    rotate(rotated_middle_.data());
}

void Encoder::rotate(float* values) const {
    const std::size_t size = layout_.code_dim();
    const std::size_t power = largest_power_of_two(size);
    const std::size_t rounds = signs_.size() / size;
    for (std::size_t round = 0; round < rounds; ++round) {
        const float* signs = signs_.data() + round * size;
        for (std::size_t i = 0; i < size; ++i) values[i] *= signs[i];
        kernels_.hadamard(values + (round % 2 == 0 ? 0 : size - power), power);
        if (power == size || round > 0) continue;
        // If the size is no power of two, each transform covers one end. This step carries its values to the other.
        constexpr float kHalf = 0.70710678118654752F;  // square root of 1/2
        for (std::size_t i = 0; i < size / 2; ++i) {
            const float a = values[i] * kHalf;
            const float b = values[i + size / 2] * kHalf;
            values[i] = a + b;
            values[i + size / 2] = a - b;
        }
    }
}

double Encoder::encode_row(const float* descriptor, const RowTarget& target) const {
    const std::size_t size = layout_.code_dim();
    AlignedVector<float> rotated(size, 0.0F);
    if (layout_.precision == Precision::float16) {
        std::memset(target.values, 0, layout_.value_bytes());
        for (std::size_t i = 0; i < layout_.dim; ++i) {
            const std::uint16_t half = float_to_half(descriptor[i]);
            std::memcpy(target.values + i * sizeof(half), &half, sizeof(half));
            rotated[i] = half_to_float(half);
        }
    } else {
        std::memcpy(rotated.data(), descriptor, layout_.dim * sizeof(float));
        if (layout_.precision == Precision::float32) {
            std::memset(target.values, 0, layout_.value_bytes());
            std::memcpy(target.values, descriptor, layout_.dim * sizeof(float));
        }
    }
    for (std::size_t i = 0; i < layout_.dim; ++i) rotated[i] -= centre_.middle[i];
    double distance = std::sqrt(kernels_.squared_length(rotated.data(), layout_.dim));
    rotate(rotated.data());
    AlignedVector<std::int8_t> code(size);
    float error = kernels_.round_to_codes(rotated.data(), row_steps_, size, code.data());
    if (layout_.precision == Precision::int8) {
        std::copy(code.begin(), code.end(), rotated.begin());  // an int8 row stores only its code
        error = 0.0F;
        distance = std::sqrt(kernels_.squared_length(rotated.data(), size)) * row_step_;
    }
    double high_error = 0.0;
    for (std::size_t line = 0; line < size; line += 128) {
        for (std::size_t j = 0; j < 64; ++j) {
            const unsigned first = static_cast<unsigned>(code[line + j] + 128);
            const unsigned second = static_cast<unsigned>(code[line + 64 + j] + 128);
            target.high[line / 2 + j] = static_cast<std::uint8_t>(first >> 4 | (second & 0xF0U));
            target.low[line / 2 + j] = static_cast<std::uint8_t>((first & 15U) | (second & 15U) << 4);
        }
    }
    for (std::size_t i = 0; i < size; ++i) {
        const float off = rotated[i] - (static_cast<float>((code[i] + 128) & 0xF0) + kMiddle);
        high_error += static_cast<double>(off) * off;
    }
    *target.high_bound = in_units(length_of(high_error, query_step_), CodeBounds::kHighUnit);
    *target.bound = in_units(length_of(error, query_step_), CodeBounds::kUnit);

    const unsigned sketch_shift = target.sketch_row < 16 ? 0 : 4;
    for (std::size_t group = 0; group < layout_.sketch_groups(); ++group) {
        unsigned signs = 0;
        for (std::size_t j = 0; j < 4; ++j) signs |= (code[4 * group + j] >= 0 ? 1U : 0U) << j;
        target.sketch_block[16 * group + target.sketch_row % 16] |= static_cast<std::uint8_t>(signs << sketch_shift);
    }
    return distance;
}

double Encoder::distance(const float* descriptor) const {
    std::vector<float> centred(descriptor, descriptor + layout_.dim);
    for (std::size_t i = 0; i < layout_.dim; ++i) centred[i] -= centre_.middle[i];
    return std::sqrt(kernels_.squared_length(centred.data(), layout_.dim));
}

void Encoder::decode_row(const std::uint8_t* values, float* descriptor) const {
    if (layout_.precision == Precision::float32) {
        std::memcpy(descriptor, values, layout_.dim * sizeof(float));
        return;
    }
    for (std::size_t i = 0; i < layout_.dim; ++i) {
        std::uint16_t half;
        std::memcpy(&half, values + i * sizeof(half), sizeof(half));
        descriptor[i] = half_to_float(half);
    }
}

EncodedQuery Encoder::encode_query(const float* query, bool sketched) const {
    const std::size_t size = layout_.code_dim();
    EncodedQuery encoded;
    encoded.values = padded(query, layout_.dim, layout_.value_count());
    AlignedVector<float> rotated = padded(query, layout_.dim, size);
    rotate(rotated.data());
    encoded.middle = kernels_.dot_f32(rotated.data(), rotated_middle_.data(), size);
    if (sketched) {
        AlignedVector<float> centred(size);
        for (std::size_t i = 0; i < size; ++i) centred[i] = rotated[i] - rotated_middle_[i];
        encoded.sketch.resize(size);
        kernels_.round_to_codes(centred.data(), row_steps_, size, encoded.sketch.data());
    }
    encoded.code.resize(size);
    const float error = kernels_.round_to_codes(rotated.data(), query_steps_, size, encoded.code.data());
    encoded.code_error = length_of(error, query_step_);
    std::int32_t squared = 0;
    for (const std::int8_t code : encoded.code) {
        encoded.code_sum += code;
        squared += code * code;
    }
    encoded.code_length = std::sqrt(static_cast<double>(squared)) * query_step_;
    if (layout_.precision == Precision::int8) {
        for (std::size_t i = 0; i < size; ++i) rotated[i] -= encoded.code[i];
        encoded.fraction.resize(size);
        kernels_.round_to_codes(rotated.data(), 256.0F, size, encoded.fraction.data());
        for (const std::int8_t fraction : encoded.fraction) encoded.fraction_sum += fraction;
        encoded.code_error += query_step_ * std::sqrt(static_cast<double>(size)) / 256;  // the fraction is rounded too
    }
    return encoded;
}

double Encoder::product_error() const noexcept { return 1 / (std::sqrt(12.0) * query_step_); }

}  // namespace vpr
