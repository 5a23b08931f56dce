#include "checksum.hpp"

#include <array>
#include <cstring>

namespace vpr {
namespace {

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// Slicing-by-8 (Kounavis and Berry, 2005): eight table look-ups a step, about 2 GB/s without special
// instructions, so that a map of 100,000 places is checked in a tenth of a second on any machine.
constexpr Tables make_tables() {
    Tables tables{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0U ? 0x82F63B78U : 0U);
        tables[0][byte] = crc;
    }
    for (std::size_t slice = 1; slice < 8; ++slice) {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            const std::uint32_t previous = tables[slice - 1][byte];
            tables[slice][byte] = (previous >> 8) ^ tables[0][previous & 0xFFU];
        }
    }
    return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

std::uint32_t crc32c(const void* bytes, std::size_t size, std::uint32_t before) noexcept {
    const auto* next = static_cast<const unsigned char*>(bytes);
    std::uint32_t crc = ~before;
    for (; size >= 8; size -= 8, next += 8) {
        // Assembled byte by byte: the same on a big-endian machine, one load on a little-endian one.
        const std::uint32_t low = crc ^ (std::uint32_t{next[0]} | std::uint32_t{next[1]} << 8 |
                                         std::uint32_t{next[2]} << 16 | std::uint32_t{next[3]} << 24);
        crc = kTables[7][low & 0xFFU] ^ kTables[6][(low >> 8) & 0xFFU] ^ kTables[5][(low >> 16) & 0xFFU] ^
              kTables[4][low >> 24] ^ kTables[3][next[4]] ^ kTables[2][next[5]] ^ kTables[1][next[6]] ^
              kTables[0][next[7]];
    }
    for (; size > 0; --size, ++next) crc = (crc >> 8) ^ kTables[0][(crc ^ *next) & 0xFFU];
    return ~crc;
}

}  // namespace vpr
