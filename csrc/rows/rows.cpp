#include "rows/rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace vpr {
namespace {

constexpr std::size_t kChunkRows = 16384;

std::size_t blocks_of(std::size_t rows) { return (rows + Layout::kBlockRows - 1) / Layout::kBlockRows; }

}  // namespace

Rows::Rows(const Layout& of)
    : layout(of),
      ids(sizeof(std::int64_t), kChunkRows),
      removed(sizeof(std::uint8_t), kChunkRows),
      high_bounds(sizeof(std::uint8_t), kChunkRows),
      bounds(sizeof(std::uint8_t), kChunkRows),
      high(layout.plane_bytes(), kChunkRows),
      low(layout.plane_bytes(), kChunkRows),
      values(layout.value_bytes(), kChunkRows),
      sketches(layout.sketch_block_bytes(), kChunkRows / Layout::kBlockRows),
      pending_sketches_(layout.sketch_block_bytes(), std::uint8_t{0}) {}

std::array<std::pair<Column*, std::size_t>, Rows::kColumns> Rows::columns() {
    return {{{&ids, count},
             {&removed, count},
             {&high_bounds, count},
             {&bounds, count},
             {&high, count},
             {&low, count},
             {&values, count},
             {&sketches, sketch_blocks()}}};
}

std::array<std::pair<const Column*, std::size_t>, Rows::kColumns> Rows::columns() const {
    std::array<std::pair<const Column*, std::size_t>, kColumns> result;
    const auto from = const_cast<Rows*>(this)->columns();
    for (std::size_t i = 0; i < kColumns; ++i) result[i] = from[i];
    return result;
}

Rows::Growth Rows::growth_for(std::size_t more) const {
    Growth growth;
    const auto all = columns();
    for (std::size_t i = 0; i < kColumns; ++i) {
        const bool blocks = all[i].first == &sketches;
        growth[i] = all[i].first->growth_for(all[i].second, blocks ? blocks_of(count + more) : count + more);
    }
    return growth;
}

void Rows::grow(Growth growth) {
    const auto all = columns();
    for (std::size_t i = 0; i < kColumns; ++i) all[i].first->grow(std::move(growth[i]));
}

double Rows::write(std::size_t row, std::int64_t id, const float* descriptor, const Encoder& encoder) {
    RowTarget target{};
    target.high = high.at(row);
    target.low = low.at(row);
    target.high_bound = high_bounds.at(row);
    target.bound = bounds.at(row);
    if (layout.value_bytes() > 0) target.values = values.at(row);
    if (layout.sketch_groups() > 0) {
        target.sketch_row = row % Layout::kBlockRows;
        const bool shared = row / Layout::kBlockRows == count / Layout::kBlockRows && count % Layout::kBlockRows != 0;
        target.sketch_block = shared ? pending_sketches_.data() : sketches.at(row / Layout::kBlockRows);
        if (row == count || target.sketch_row == 0) {
            std::memset(target.sketch_block, 0, layout.sketch_block_bytes());
        }
    }
    const double distance = encoder.encode_row(descriptor, target);
    std::memcpy(ids.at(row), &id, sizeof(id));
    *removed.at(row) = 0;
    return distance;
}

Rows Rows::encoded_by(const Encoder& encoder) const {
    Rows result(layout);
    result.grow(result.growth_for(count));
    std::vector<float> descriptor(layout.dim);
    double distance = 0;
    for (std::size_t row = 0; row < count; ++row) {
        encoder.decode_row(values.at(row), descriptor.data());
        distance = std::max(distance, result.write(row, id(row), descriptor.data(), encoder));
        *result.removed.at(row) = *removed.at(row);
    }
    result.publish(count);
    result.removed_count = removed_count;
    result.set_farthest(distance);
    return result;
}

void Rows::set_farthest(double distance) noexcept {
    farthest = std::max(farthest, std::nextafter(static_cast<float>(distance), 4.0F));
}

void Rows::publish(std::size_t more) noexcept {
    if (count % Layout::kBlockRows != 0 && layout.sketch_groups() > 0) {
        std::uint8_t* const block = sketches.at(count / Layout::kBlockRows);
        for (std::size_t i = 0; i < pending_sketches_.size(); ++i) block[i] |= pending_sketches_[i];
        std::fill(pending_sketches_.begin(), pending_sketches_.end(), std::uint8_t{0});
    }
    const std::size_t before = count;
    count += more;
    for (const auto& [column, records] : columns()) {
        const bool blocks = column == &sketches;
        column->settle(blocks ? blocks_of(before) : before, records);
    }
}

}  // namespace vpr
