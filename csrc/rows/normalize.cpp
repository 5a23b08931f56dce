#include "rows/normalize.hpp"

#include <cmath>
#include <sstream>
#include <stdexcept>

#include "kernels/kernels.hpp"

namespace vpr {
namespace {

// Storing as float16 changes a unit vector's length by up to 5e-4. Ten times that is more than rounding.
constexpr double kUnitTolerance = 5e-3;

[[noreturn]] void refuse(const char* what, std::size_t row, const std::string& found) {
    std::ostringstream message;
    message << what << ' ' << row << ' ' << found;
    throw std::invalid_argument(message.str());
}

}  // namespace

void l2_normalize(const float* rows, std::size_t count, std::size_t dim, float* result) {
    const Kernels& kernels = best_kernels();
    for (std::size_t r = 0; r < count; ++r) {
        const float* row = rows + r * dim;
        const double squared = kernels.squared_length(row, dim);
        if (!std::isfinite(squared)) {
            refuse("row", r, "has a value that is not finite; the network or its input is broken");
        }
        if (squared == 0.0) {
            refuse("row", r, "is all zeros; the network or its input is broken");
        }
        const double scale = 1.0 / std::sqrt(squared);
        for (std::size_t i = 0; i < dim; ++i) {
            result[r * dim + i] = static_cast<float>(static_cast<double>(row[i]) * scale);
        }
    }
}

void require_unit_rows(const float* rows, std::size_t count, std::size_t dim, const char* what) {
    const Kernels& kernels = best_kernels();
    for (std::size_t r = 0; r < count; ++r) {
        const double squared = kernels.squared_length(rows + r * dim, dim);
        if (!std::isfinite(squared)) refuse(what, r, "has a value that is not finite");
        const double length = std::sqrt(squared);
        if (std::abs(length - 1.0) > kUnitTolerance) {
            std::ostringstream found;
            found << "has length " << length << ", expected 1; pass it through l2_normalize first";
            refuse(what, r, found.str());
        }
    }
}

}  // namespace vpr
