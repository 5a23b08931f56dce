#pragma once

#include <cstddef>
#include <cstdint>

namespace vpr {

/// CRC-32C (Castagnoli) of a byte range, or of one more piece of it: crc32c(b, crc32c(a)) is that of a then b.
///
/// Source: RFC 3720, appendix B.4 (polynomial 0x1EDC6F41, reflected; "123456789" gives 0xE3069283).
std::uint32_t crc32c(const void* bytes, std::size_t size, std::uint32_t before = 0) noexcept;

}  // namespace vpr
