#include "memory/checksum.hpp"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace vpr {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78;  // 0x1EDC6F41, reflected
constexpr std::size_t kQuarters = 4;
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables make_tables() {
    Tables tables{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1U) != 0 ? kPolynomial : 0U);
        tables[0][byte] = crc;
    }
    for (std::size_t slice = 1; slice < 8; ++slice) {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            const std::uint32_t crc = tables[slice - 1][byte];
            tables[slice][byte] = crc >> 8 ^ tables[0][crc & 0xFFU];
        }
    }
    return tables;
}

constexpr Tables kTables = make_tables();

/// Eight bytes at a time ("slicing by 8", Kounavis and Berry, ISCC 2005), for processors without a CRC instruction.
std::uint32_t extend_by_table(std::uint32_t crc, const std::uint8_t* bytes, std::size_t size) {
    for (; size >= 8; bytes += 8, size -= 8) {
        std::uint64_t chunk;
        std::memcpy(&chunk, bytes, 8);
        chunk ^= crc;
        crc = 0;
        for (std::size_t i = 0; i < 8; ++i) crc ^= kTables[7 - i][chunk >> 8 * i & 0xFFU];
    }
    for (; size > 0; ++bytes, --size) crc = crc >> 8 ^ kTables[0][(crc ^ *bytes) & 0xFFU];
    return crc;
}

void quarters_by_table(const std::uint8_t* bytes, std::size_t quarter, std::uint32_t* crcs) {
    for (std::size_t i = 0; i < kQuarters; ++i) crcs[i] = extend_by_table(crcs[i], bytes + i * quarter, quarter);
}

// The instruction takes three cycles, and one can start in each cycle: the chains of the four quarters overlap.
#if defined(__x86_64__)
#define VPR_CRC_TARGET __attribute__((target("sse4.2")))
bool has_instruction() { return __builtin_cpu_supports("sse4.2") != 0; }
VPR_CRC_TARGET std::uint64_t step8(std::uint64_t crc, std::uint64_t bytes) { return _mm_crc32_u64(crc, bytes); }
VPR_CRC_TARGET std::uint64_t step1(std::uint64_t crc, std::uint8_t byte) {
    return _mm_crc32_u8(static_cast<std::uint32_t>(crc), byte);
}
#elif defined(__aarch64__)
#define VPR_CRC_TARGET __attribute__((target("+crc")))
bool has_instruction() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
VPR_CRC_TARGET std::uint64_t step8(std::uint64_t crc, std::uint64_t bytes) {
    return __crc32cd(static_cast<std::uint32_t>(crc), bytes);
}
VPR_CRC_TARGET std::uint64_t step1(std::uint64_t crc, std::uint8_t byte) {
    return __crc32cb(static_cast<std::uint32_t>(crc), byte);
}
#endif

#if defined(VPR_CRC_TARGET)
VPR_CRC_TARGET void quarters_by_instruction(const std::uint8_t* bytes, std::size_t quarter, std::uint32_t* crcs) {
    std::uint64_t running[kQuarters] = {crcs[0], crcs[1], crcs[2], crcs[3]};
    std::size_t at = 0;
    for (; at + 8 <= quarter; at += 8) {
        for (std::size_t i = 0; i < kQuarters; ++i) {
            std::uint64_t next;
            std::memcpy(&next, bytes + i * quarter + at, 8);
            running[i] = step8(running[i], next);
        }
    }
    for (; at < quarter; ++at) {
        for (std::size_t i = 0; i < kQuarters; ++i) running[i] = step1(running[i], bytes[i * quarter + at]);
    }
    for (std::size_t i = 0; i < kQuarters; ++i) crcs[i] = static_cast<std::uint32_t>(running[i]);
}

const auto kQuartersBest = has_instruction() ? quarters_by_instruction : quarters_by_table;
#else
const auto kQuartersBest = quarters_by_table;
#endif

}  // namespace

std::uint32_t crc32c(const void* bytes, std::size_t size) noexcept {
    return ~extend_by_table(~0U, static_cast<const std::uint8_t*>(bytes), size);
}

std::uint32_t block_checksum(const void* bytes, std::size_t size) noexcept {
    std::uint32_t crcs[kQuarters] = {~0U, ~0U, ~0U, ~0U};
    kQuartersBest(static_cast<const std::uint8_t*>(bytes), size / kQuarters, crcs);
    for (std::uint32_t& crc : crcs) crc = ~crc;
    return crc32c(crcs, sizeof(crcs));
}

}  // namespace vpr
