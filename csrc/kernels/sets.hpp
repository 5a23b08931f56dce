#pragma once

#include "kernels/half.hpp"
#include "kernels/kernels.hpp"

// One file for each table, compiled for its instruction set. It runs only if `available_kernels` lists it.
namespace vpr {

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;    // AVX2, F16C
extern const Kernels kAvx512Kernels;  // AVX-512 F, BW, DQ, VL, VNNI
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;     // ARMv8.0
extern const Kernels kDotprodKernels;  // ARMv8.2 with SDOT
#endif

}  // namespace vpr
