#include "kernels/kernels.hpp"

#include <stdexcept>

#include "kernels/sets.hpp"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace vpr {

std::vector<const Kernels*> available_kernels() {
    std::vector<const Kernels*> sets{&kScalarKernels};
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) {
        sets.push_back(&kAvx2Kernels);
        if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
            sets.push_back(&kAvx512Kernels);
        }
    }
#elif defined(__aarch64__)
    sets.push_back(&kNeonKernels);
    if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) sets.push_back(&kDotprodKernels);
#endif
    return sets;
}

const Kernels& best_kernels() noexcept {
    static const Kernels* const best = available_kernels().back();
    return *best;
}

const Kernels& kernels_named(const std::string& name) {
    if (name.empty()) return best_kernels();
    std::string names;
    for (const Kernels* set : available_kernels()) {
        if (name == set->name) return *set;
        names += (names.empty() ? "" : ", ") + std::string(set->name);
    }
    throw std::invalid_argument("instruction set is '" + name + "', expected one that this machine has: " + names);
}

}  // namespace vpr
