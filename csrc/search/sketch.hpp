#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.hpp"
#include "memory/mapped_file.hpp"
#include "rows/encoder.hpp"
#include "rows/rows.hpp"

namespace vpr {

/// The rows whose sketches agree best with a query, removed rows included, in order of rows. At least `wanted` rows, or
/// all; not many more, unless they agree equally.
///
/// A sketch holds the signs of up to 512 dimensions of a row's code. Each four signs select an entry of a table that is
/// made for the query, and the agreement is the sum of these entries. The sums are whole numbers, so every machine
/// selects the same rows.
///
/// Source: Gao and Long, RaBitQ (SIGMOD 2024), for signs behind a random rotation; Andre, Kermarrec and Le Scouarnec,
/// Quicker ADC (TPAMI 2021), for tables that fit a register.
std::vector<std::uint32_t> scan_sketches(const Rows& rows, const Kernels& kernels, const MappedFile* file,
                                         const EncodedQuery& query, std::size_t wanted);

}  // namespace vpr
