// Compares every instruction set of this machine with the scalar reference, bit for bit. Prints a digest of all results
// for each set: equal digests on x86 and ARM mean equal results.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "kernels/half.hpp"
#include "kernels/kernels.hpp"

namespace {

using vpr::Kernels;

std::mt19937 generator(20240607);  // only its raw output is used, which the standard defines

std::uint32_t random_below(std::uint32_t limit) { return static_cast<std::uint32_t>(generator()) % limit; }

float random_float() { return static_cast<float>(static_cast<std::int32_t>(generator())) * 0x1p-31F; }

/// `count` values at a 64-byte boundary. They end where their memory ends, so that a sanitizer sees reads beyond them.
template <class Value>
class Aligned {
   public:
    explicit Aligned(std::size_t count) : count_(count) {
        values_ = static_cast<Value*>(::operator new(std::max<std::size_t>(1, count) * sizeof(Value), kBoundary));
        std::memset(static_cast<void*>(values_), 0, count * sizeof(Value));
    }
    Aligned(const Aligned& other) : Aligned(other.count_) {
        std::memcpy(static_cast<void*>(values_), other.values_, count_ * sizeof(Value));
    }
    Aligned& operator=(const Aligned&) = delete;
    ~Aligned() { ::operator delete(values_, kBoundary); }

    Value* data() { return values_; }
    const Value* data() const { return values_; }
    std::size_t size() const { return count_; }
    Value& operator[](std::size_t i) { return values_[i]; }
    const Value& operator[](std::size_t i) const { return values_[i]; }
    Value* begin() { return values_; }
    Value* end() { return values_ + count_; }

   private:
    static constexpr std::align_val_t kBoundary{64};
    std::size_t count_;
    Value* values_;
};

/// FNV-1a of all results of a set.
class Digest {
   public:
    void add(const void* data, std::size_t bytes) {
        const auto* at = static_cast<const unsigned char*>(data);
        for (std::size_t i = 0; i < bytes; ++i) value_ = (value_ ^ at[i]) * 0x100000001B3U;
    }
    std::uint64_t value() const { return value_; }

   private:
    std::uint64_t value_ = 0xCBF29CE484222325U;
};

/// The bits of a result. All NaNs get the same bits, because their sign and payload are not specified.
std::uint32_t bits_of(float value) {
    if (std::isnan(value)) return 0x7FC00000U;
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

std::uint64_t bits_of(double value) {
    if (std::isnan(value)) return 0x7FF8000000000000U;
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

struct Set {
    const Kernels* kernels;
    Digest digest;
};

/// Runs `call`, which returns a vector of results, with every set; exits if one differs from the first, scalar.
template <class Call>
void compare(std::vector<Set>& sets, const char* function, const std::string& size, const Call& call) {
    const auto expected = call(*sets.front().kernels);
    for (Set& set : sets) {
        const auto results = &set == &sets.front() ? expected : call(*set.kernels);
        for (std::size_t i = 0; i < std::max(results.size(), expected.size()); ++i) {
            if (i < results.size() && i < expected.size() && results[i] == expected[i]) continue;
            std::printf("%s differs from scalar in %s of %s: result %zu.\n", set.kernels->name, function, size.c_str(),
                        i);
            std::exit(1);
        }
        set.digest.add(results.data(), results.size() * sizeof(results[0]));
    }
}

void squared_lengths(std::vector<Set>& sets) {
    std::vector<std::size_t> dims{128, 255, 256, 257, 511, 512, 513, 1000, 2048, 4095, 4096};
    for (std::size_t dim = 1; dim <= 100; ++dim) dims.push_back(dim);
    const float huge = std::numeric_limits<float>::max();
    const float tiny = std::numeric_limits<float>::denorm_min();
    const float infinity = std::numeric_limits<float>::infinity();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const std::size_t dim : dims) {
        for (int kind = 0; kind < 8; ++kind) {
            Aligned<float> row(dim);
            for (float& value : row) {
                value = random_float();
                if (kind == 1) value = std::ldexp(value, static_cast<int>(random_below(250)) - 125);
                if (kind == 2) value = random_below(2) != 0 ? huge : -huge;
                if (kind == 3) value = random_below(2) != 0 ? tiny : -tiny;
                if (kind == 4) value *= 1000.0F * std::numeric_limits<float>::denorm_min();
            }
            const std::size_t place = random_below(static_cast<std::uint32_t>(dim));
            if (kind == 5) row[place] = infinity;
            if (kind == 6) row[place] = -nan;
            if (kind == 7) {
                row[place] = nan;
                row[dim - 1 - place] = -infinity;
            }
            const std::string size = std::to_string(dim) + " values, kind " + std::to_string(kind);
            compare(sets, "squared_length", size, [&](const Kernels& kernels) {
                const double length = kernels.squared_length(row.data(), dim);
                if (std::isfinite(length) != (kind < 5)) {
                    std::printf("%s is %s finite in squared_length of %s.\n", kernels.name,
                                kind < 5 ? "not" : "wrongly", size.c_str());
                    std::exit(1);
                }
                return std::vector<std::uint64_t>{bits_of(length)};
            });
        }
    }
}

void dots(std::vector<Set>& sets) {
    for (std::size_t dim = 32; dim <= 4096; dim += dim < 256 ? 32 : 256 - dim % 256 + (dim % 768 == 0 ? 32 : 0)) {
        for (int kind = 0; kind < 4; ++kind) {
            Aligned<float> query(dim);
            Aligned<float> row(dim);
            Aligned<std::uint16_t> halves(dim);
            for (std::size_t i = 0; i < dim; ++i) {
                query[i] = random_float();
                row[i] = random_float();
                halves[i] = vpr::float_to_half(row[i]);
                if (kind == 1) {
                    query[i] = std::ldexp(query[i], static_cast<int>(random_below(120)) - 60);
                    row[i] = std::ldexp(row[i], static_cast<int>(random_below(120)) - 90);
                    const std::uint32_t sign = random_below(2);  // one draw for each statement: operands have no order
                    halves[i] = static_cast<std::uint16_t>(random_below(0x7C00U) | sign << 15);
                }
                if (kind == 2) {  // products and sums that are subnormal
                    query[i] = std::ldexp(query[i], -126);
                    halves[i] &= 0x83FFU;
                }
                if (kind == 3) {  // the sum depends on the order
                    query[i] = random_below(2) != 0 ? 1.0F : -1.0F;
                    row[i] = std::ldexp(1.0F + row[i], static_cast<int>(random_below(40)));
                    halves[i] = 0x7BFFU;
                }
            }
            const std::string size = std::to_string(dim) + " values, kind " + std::to_string(kind);
            compare(sets, "dot_f32", size, [&](const Kernels& kernels) {
                return std::vector<std::uint32_t>{bits_of(kernels.dot_f32(query.data(), row.data(), dim))};
            });
            compare(sets, "dot_f16", size, [&](const Kernels& kernels) {
                return std::vector<std::uint32_t>{bits_of(kernels.dot_f16(query.data(), halves.data(), dim))};
            });
        }
    }
}

/// Each of the 65536 halves, spread over the lanes, multiplied by one.
void all_halves(std::vector<Set>& sets) {
    Aligned<float> query(32);
    Aligned<std::uint16_t> halves(32);
    compare(sets, "dot_f16", "one half at a time", [&](const Kernels& kernels) {
        std::vector<std::uint32_t> values;
        for (std::uint32_t half = 0; half < 65536; ++half) {
            const std::size_t lane = half % 32;
            query[lane] = 1.0F;
            halves[lane] = static_cast<std::uint16_t>(half);
            values.push_back(bits_of(kernels.dot_f16(query.data(), halves.data(), 32)));
            query[lane] = 0.0F;
            halves[lane] = 0;
        }
        return values;
    });
}

void hadamards(std::vector<Set>& sets) {
    for (std::size_t n = 64; n <= 16384; n *= 2) {
        for (int kind = 0; kind < 3; ++kind) {
            Aligned<float> values(n);
            for (float& value : values) {
                value = random_float();
                if (kind == 1) value = std::ldexp(value, static_cast<int>(random_below(60)) - 30);
                if (kind == 2) value = random_below(3) == 0 ? -0.0F : std::ldexp(value, -130);
            }
            compare(sets, "hadamard", std::to_string(n) + " values", [&](const Kernels& kernels) {
                Aligned<float> transformed(values);
                kernels.hadamard(transformed.data(), n);
                std::vector<std::uint32_t> bits;
                for (const float value : transformed) bits.push_back(bits_of(value));
                return bits;
            });
        }
    }
}

void codes(std::vector<Set>& sets) {
    for (std::size_t count = 16; count <= 4096; count += count < 1024 ? 16 : 1024) {
        for (int kind = 0; kind < 8; ++kind) {
            Aligned<float> values(count);
            float steps = 100.0F;
            for (float& value : values) {
                value = random_float() * 1.5F;  // some beyond what codes reach
                // Half steps, which round to even, and their neighbours on both sides.
                if (kind == 1) value = (static_cast<float>(random_below(512)) - 256.0F) / 2;
                if (kind == 2) value = std::nextafter(static_cast<float>(random_below(256)) - 127.5F, value);
                if (kind == 3) value = std::ldexp(value, static_cast<int>(random_below(230)) - 100);
                if (kind == 4) value = random_below(2) != 0 ? std::numeric_limits<float>::max() : -value;
                if (kind == 5) value = random_below(2) != 0 ? -0.0F : std::numeric_limits<float>::denorm_min();
                if (kind == 6) value = std::ldexp(1.0F + value, static_cast<int>(random_below(60)) - 40);
                if (kind == 7) value = random_below(2) != 0 ? 2147483648.0F : -2147483904.0F;  // beyond int32 in steps
            }
            if (kind == 1 || kind == 2 || kind == 7) steps = 1.0F;
            if (kind == 6) steps = 0x1.fffffep+20F;
            const std::string size = std::to_string(count) + " values, kind " + std::to_string(kind);
            compare(sets, "round_to_codes", size, [&](const Kernels& kernels) {
                Aligned<float> scaled(values);
                Aligned<std::int8_t> found(count);
                const float left = kernels.round_to_codes(scaled.data(), steps, count, found.data());
                std::vector<std::uint32_t> results{bits_of(left)};
                for (std::size_t i = 0; i < count; ++i) {
                    const float step = std::nearbyint(std::min(std::max(values[i] * steps, -127.0F), 127.0F));
                    if (static_cast<float>(found[i]) != step || bits_of(scaled[i]) != bits_of(values[i] * steps)) {
                        std::printf("%s rounds %a to %d in round_to_codes of %s.\n", kernels.name,
                                    static_cast<double>(values[i] * steps), int{found[i]}, size.c_str());
                        std::exit(1);
                    }
                    results.push_back(static_cast<std::uint32_t>(found[i]));
                    results.push_back(bits_of(scaled[i]));
                }
                return results;
            });
        }
    }
}

/// Kind 0 is random. The others set every value to one extreme, or to one of two at random.
void fill_query(Aligned<std::int8_t>& query, int kind) {
    for (std::int8_t& value : query) {
        int number = static_cast<int>(random_below(255)) - 127;
        if (kind == 1) number = 127;
        if (kind == 2) number = -127;
        if (kind == 3) number = random_below(2) != 0 ? 127 : -127;
        value = static_cast<std::int8_t>(number);
    }
}

void fill_planes(std::uint8_t* planes, std::size_t bytes, int kind) {
    for (std::size_t i = 0; i < bytes; ++i) {
        std::uint32_t number = random_below(256);
        if (kind == 1 || kind == 2) number = 255;
        if (kind == 3) number = random_below(2) * 15;
        if (kind == 3) number += random_below(2) * 240;
        planes[i] = static_cast<std::uint8_t>(number);
    }
}

void planes(std::vector<Set>& sets) {
    std::vector<std::size_t> sizes;
    for (std::size_t bytes = 64; bytes <= 2048; bytes += 64) sizes.push_back(bytes);
    sizes.push_back(4096);
    for (const std::size_t plane_bytes : sizes) {
        constexpr std::size_t kMost = 67;
        for (int kind = 0; kind < 4; ++kind) {
            Aligned<std::int8_t> query(2 * plane_bytes);
            Aligned<std::uint8_t> all(kMost * plane_bytes);
            fill_query(query, kind);
            fill_planes(all.data(), all.size(), kind);
            std::vector<const std::uint8_t*> rows;
            for (std::size_t i = 0; i < kMost; ++i) rows.push_back(all.data() + i * 29 % kMost * plane_bytes);
            for (std::size_t count = 0; count <= kMost; count += plane_bytes <= 256 || count < 8 ? 1 : 7) {
                // The result after the last plane must stay unchanged.
                const std::string size = std::to_string(count) + " planes of " + std::to_string(plane_bytes) +
                                         " bytes, kind " + std::to_string(kind);
                compare(sets, "plane_products", size, [&](const Kernels& kernels) {
                    std::vector<std::int32_t> products(count + 1, 12345);
                    kernels.plane_products(query.data(), rows.data(), count, plane_bytes, products.data());
                    return products;
                });
                // Planes that end where their memory does.
                Aligned<std::uint8_t> some(count * plane_bytes);
                std::memcpy(some.data(), all.data(), some.size());
                compare(sets, "plane_scan", size, [&](const Kernels& kernels) {
                    std::vector<std::int32_t> products(count + 1, 12345);
                    kernels.plane_scan(query.data(), some.data(), count, plane_bytes, products.data());
                    return products;
                });
            }
        }
    }
}

void code_products(std::vector<Set>& sets) {
    for (std::size_t plane_bytes = 64; plane_bytes <= 4096; plane_bytes += plane_bytes < 2048 ? 64 : 1024) {
        for (int kind = 0; kind < 8; ++kind) {
            std::vector<Aligned<std::uint8_t>> parts;
            for (int part = 0; part < 4; ++part) {
                Aligned<std::uint8_t> bytes(plane_bytes);
                fill_planes(bytes.data(), plane_bytes, kind == 1 ? 3 : 0);
                // Codes 0 and 255 (the numbers -128 and 127) on either side, and 128 (the number 0).
                if (kind == 2 || (kind == 3 && part < 2)) std::fill(bytes.begin(), bytes.end(), std::uint8_t{0});
                if (kind == 4 || (kind == 3 && part >= 2)) std::fill(bytes.begin(), bytes.end(), std::uint8_t{255});
                if (kind == 5 && part < 2) std::fill(bytes.begin(), bytes.end(), std::uint8_t{0});
                if (kind == 6 && part >= 2) std::fill(bytes.begin(), bytes.end(), std::uint8_t{255});
                if (kind == 7) std::fill(bytes.begin(), bytes.end(), std::uint8_t(part % 2 == 0 ? 0x88 : 0));
                parts.push_back(bytes);
            }
            const std::string size = std::to_string(plane_bytes) + " bytes, kind " + std::to_string(kind);
            compare(sets, "code_product", size, [&](const Kernels& kernels) {
                return std::vector<std::int32_t>{kernels.code_product(parts[0].data(), parts[1].data(), parts[2].data(),
                                                                      parts[3].data(), plane_bytes)};
            });
        }
    }
}

void sketches(std::vector<Set>& sets) {
    for (std::size_t groups = 32; groups <= 128; groups += 32) {
        for (std::size_t count = 0; count <= 67; ++count) {
            const int kind = static_cast<int>(count % 3);
            Aligned<std::uint8_t> tables(16 * groups);
            Aligned<std::uint8_t> blocks(16 * groups * count);
            for (std::uint8_t& entry : tables) entry = static_cast<std::uint8_t>(kind == 1 ? 63 : random_below(64));
            fill_planes(blocks.data(), blocks.size(), kind == 2 ? 3 : 0);
            compare(sets, "sketch_sums", std::to_string(count) + " blocks of " + std::to_string(groups) + " groups",
                    [&](const Kernels& kernels) {
                        Aligned<std::uint16_t> sums(32 * count);
                        std::fill(sums.begin(), sums.end(), std::uint16_t{54321});
                        kernels.sketch_sums(tables.data(), groups, blocks.data(), count, sums.data());
                        return std::vector<std::uint16_t>(sums.begin(), sums.end());
                    });
        }
    }
}

void thresholds(std::vector<Set>& sets) {
    for (std::size_t count = 0; count <= 67 * 32; count += 32) {
        for (const std::uint32_t limit : {1U, 2U, 300U, 8065U, 65536U}) {
            Aligned<std::uint16_t> sums(count);
            for (std::uint16_t& sum : sums) sum = static_cast<std::uint16_t>(random_below(limit));
            for (const std::uint32_t threshold : {0U, 1U, limit / 2, limit - limit / 50 - 1, 32767U, 32768U, 65535U}) {
                compare(sets, "above", std::to_string(count) + " sums, threshold " + std::to_string(threshold),
                        [&](const Kernels& kernels) {
                            std::vector<std::uint32_t> positions(count);
                            positions.resize(kernels.above(sums.data(), count, static_cast<std::uint16_t>(threshold),
                                                           positions.data()));
                            return positions;
                        });
            }
        }
    }
}

}  // namespace

int main() {
    std::vector<Set> sets;
    for (const Kernels* kernels : vpr::available_kernels()) sets.push_back({kernels, Digest()});
    squared_lengths(sets);
    dots(sets);
    all_halves(sets);
    hadamards(sets);
    codes(sets);
    planes(sets);
    code_products(sets);
    sketches(sets);
    thresholds(sets);
    for (const Set& set : sets) {
        std::printf("%-8s %016llx\n", set.kernels->name, static_cast<unsigned long long>(set.digest.value()));
    }
    return 0;
}
