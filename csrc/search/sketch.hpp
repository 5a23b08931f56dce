#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.hpp"
#include "memory/mapped_file.hpp"
#include "rows/encoder.hpp"
#include "rows/rows.hpp"

namespace vpr {

/// The rows whose sketches agree best with a query, removed ones too, in order: at least `wanted` of them, or all that
/// there are, and not many more unless they agree equally.
///
/// A sketch is the signs of up to 512 dimensions of a row's code. Each four of them pick, from a table made for the
/// query, what they add to the agreement. Whole numbers, so the same rows everywhere.
///
/// Source: Gao and Long, RaBitQ (SIGMOD 2024), for signs behind a random rotation; Andre, Kermarrec and Le Scouarnec,
/// Quicker ADC (TPAMI 2021), for tables that fit a register.
std::vector<std::uint32_t> scan_sketches(const Rows& rows, const Kernels& kernels, const MappedFile* file,
                                         const EncodedQuery& query, std::size_t wanted);

}  // namespace vpr
