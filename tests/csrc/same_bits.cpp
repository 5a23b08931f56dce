// Prints digests of the kernel's results with one instruction set, and writes index files. run_arm.sh compares them
// between sets and machines.
//
//     same_bits           prints the names of the sets
//     same_bits SET PATH  prints digests and writes PATH.PRECISION-DIM

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "index/cursor.hpp"
#include "index/place_index.hpp"
#include "kernels/kernels.hpp"
#include "memory/checksum.hpp"
#include "rows/normalize.hpp"

namespace {

constexpr std::size_t kPlaces = 1500;
constexpr std::size_t kQueries = 20;
constexpr std::size_t kFrames = 120;

class Digest {
   public:
    void add(const vpr::SearchResult& found) {
        value_ = vpr::crc32c(found.ids.data(), found.ids.size() * sizeof(std::int64_t)) ^ (value_ << 1 | value_ >> 31);
        value_ = vpr::crc32c(found.similarities.data(), found.similarities.size() * sizeof(float)) ^
                 (value_ << 1 | value_ >> 31);
    }
    void print(const std::string& name) const { std::printf("%s %08x\n", name.c_str(), value_); }

   private:
    std::uint32_t value_ = 0;
};

vpr::SearchOptions options(vpr::Method method) {
    vpr::SearchOptions result;
    result.k = 10;
    result.method = method;
    return result;
}

void search_all_ways(const std::string& name, const vpr::PlaceIndex& index, const std::vector<float>& rows) {
    const struct {
        const char* name;
        vpr::Method method;
    } ways[] = {{"scan", vpr::Method::scan}, {"sketch", vpr::Method::sketch}, {"graph", vpr::Method::graph}};
    for (const auto& way : ways) {
        Digest digest;
        digest.add(index.search(rows.data(), kQueries, options(way.method)));
        digest.print(name + " " + way.name);
    }
    vpr::Cursor cursor(index);
    Digest digest;
    for (std::size_t i = 0; i < kFrames; ++i) {
        digest.add(cursor.search(rows.data() + i * index.dim(), options(vpr::Method::graph)));
    }
    digest.print(name + " cursor");
}

void compute(const vpr::Kernels& kernels, std::size_t dim, vpr::Precision precision, const std::string& name,
             const std::string& path) {
    std::mt19937 generator(7);  // the standard defines its numbers, but not those of distributions
    std::vector<float> rows(kPlaces * dim);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        // Like a drive seen by a network: each row is near the one before, and all share a mean.
        const float fresh = static_cast<float>(generator() % 2001) / 1000.0F - 0.8F;
        rows[i] = i < dim || i / dim % 50 == 0 ? fresh : 0.7F * rows[i - dim] + 0.3F * fresh;
    }
    vpr::l2_normalize(rows.data(), kPlaces, dim, rows.data());
    std::printf("%s normalised %08x\n", name.c_str(), vpr::crc32c(rows.data(), rows.size() * sizeof(float)));

    std::vector<std::int64_t> ids(kPlaces);
    for (std::size_t i = 0; i < kPlaces; ++i) ids[i] = static_cast<std::int64_t>(2 * i);
    vpr::PlaceIndex index(dim, precision, kernels);
    const std::size_t first = kPlaces - 100;
    index.add(ids.data(), rows.data(), first);
    index.build_graph(8, 40, {});
    index.add(ids.data() + first, rows.data() + first * dim, kPlaces - first);
    index.remove(ids.data() + 3, 5);
    search_all_ways(name, index, rows);

    const std::string file = path + "." + name;
    index.save(file, {}, {});
    vpr::Fingerprint state{};
    search_all_ways(name + " loaded", *vpr::PlaceIndex::load(file, dim, {}, kernels, &state), rows);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 1) {
        for (const vpr::Kernels* set : vpr::available_kernels()) std::printf("%s\n", set->name);
        return 0;
    }
    if (argc != 3) return 2;
    const vpr::Kernels& kernels = vpr::kernels_named(argv[1]);
    const struct {
        const char* name;
        vpr::Precision precision;
    } precisions[] = {
        {"float16", vpr::Precision::float16}, {"float32", vpr::Precision::float32}, {"int8", vpr::Precision::int8}};
    for (const std::size_t dim : {std::size_t{472}, std::size_t{700}}) {
        for (const auto& precision : precisions) {
            compute(kernels, dim, precision.precision, std::string(precision.name) + "-" + std::to_string(dim),
                    argv[2]);
        }
    }
    return 0;
}
